"""``ansible-test sanity`` of a collection's artefact, without the download that it begins with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

#: It fetches a program that installs pip into its environments; Python brings one.
GET_PIP = """import runpy, sys
sys.argv = ["ensurepip", "--upgrade", "--default-pip"]
runpy.run_module("ensurepip", run_name="__main__")
"""


def sanity(collection: Path, programs: Path, python: str, env: dict[str, str], *tests: str) -> tuple[int, str]:
    """Run sanity tests, all without a name, with a minor version of Python; return exit code and output.

    Args:
        collection: where it is installed, below ``ansible_collections``; becomes a work tree of git, which ansible-test
            wants.
        programs: where those of ansible-core are.
        python: minor version.
        env: environment, with a HOME of its own.
        tests: names of tests.
    """
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=collection, env=env, check=True, timeout=60)
    cache = Path(env["HOME"], ".ansible/test/cache")
    cache.mkdir(parents=True, exist_ok=True)
    (source,) = programs.parent.glob("lib/python3*/site-packages/ansible_test/_internal/python_requirements.py")
    for version in set(re.findall(r"pip='([0-9.]+)'", source.read_text())):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    argv = [programs / "ansible-test", "sanity", "--python", python, "--color", "no"]
    argv += [word for test in tests for word in ("--test", test)]
    done = subprocess.run(argv, cwd=collection, env=env, capture_output=True, text=True, check=False, timeout=3000)
    return done.returncode, done.stdout + done.stderr
