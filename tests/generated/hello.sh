# A stand-in for a good agent: does the tasks of examples/generated-plans/hello, each in its own files.
set -eu
case $OCAPTAIN_TASK_ID in
1)
cat > hello.py <<'END'
"""Greets by name."""

import sys


def greet(name="world"):
    """Return the greeting of a name; blanks around it do not count."""
    return f"Hello, {name.strip() or 'world'}!"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(print(f"usage: {sys.argv[0]} [NAME]", file=sys.stderr) or 2)
    print(greet(*sys.argv[1:]))
END
;;
2)
cat > test_hello.py <<'END'
"""What hello.py promises."""

import subprocess
import sys
import unittest

from hello import greet


def run(*names):
    return subprocess.run([sys.executable, "hello.py", *names], capture_output=True, text=True, check=False)


class TestGreet(unittest.TestCase):
    def test_a_name(self):
        self.assertEqual(greet("Ada"), "Hello, Ada!")

    def test_no_name(self):
        self.assertEqual(greet(), "Hello, world!")

    def test_blanks_do_not_count(self):
        self.assertEqual(greet("  Ada "), "Hello, Ada!")
        self.assertEqual(greet("   "), "Hello, world!")


class TestProgram(unittest.TestCase):
    def test_none_and_one(self):
        self.assertEqual(run().stdout, "Hello, world!\n")
        self.assertEqual(run("Ada").stdout, "Hello, Ada!\n")

    def test_two_are_refused(self):
        self.assertEqual(run("Ada", "Grace").returncode, 2)


if __name__ == "__main__":
    unittest.main()
END
;;
3)
{
  printf '# Hello\n\nGreets by name. Python 3 is all that it needs.\n\n'
  printf '    $ python3 hello.py Ada\n    %s\n' "$(python3 -B hello.py Ada)"
  printf '    $ python3 hello.py\n    %s\n\n' "$(python3 -B hello.py)"
  printf 'Its tests: `python3 -m unittest test_hello`.\n'
} > README.md
;;
*) echo "there is no task $OCAPTAIN_TASK_ID in this plan" >&2; exit 1 ;;
esac
