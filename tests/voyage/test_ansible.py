"""The toolkit without the command line: inventory, connection, actions, role, by Ansible's own tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from tests.helpers import REPO, Sailor

pytestmark = pytest.mark.root
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def sprite(fleet):
    """A sprite that no voyage knows."""
    made = f"lone-{uuid.uuid4().hex[:8]}"
    play(fleet, f"- sprite: {{names: [{made}], labels: [mine]}}")
    yield made
    play(fleet, f"- sprite: {{names: [{made}], state: absent}}")


def ansible(sailor, tool, *arguments, env=None):
    return subprocess.run(
        [str(BIN / tool), *map(str, arguments)],
        env={**sailor.env, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), **(env or {})},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )


def play(sailor, tasks, *arguments, hosts="localhost", ok=True, **variables):
    """Run tasks (YAML) as a play; return its output."""
    path = sailor.home / f"play-{uuid.uuid4().hex}.yml"
    indented = "\n".join(f"    {line}" for line in tasks.strip().splitlines())
    path.write_text(f"- hosts: {hosts}\n  gather_facts: false\n  tasks:\n{indented}\n")
    done = ansible(sailor, "ansible-playbook", path, "-e", json.dumps(variables), *arguments)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_inventory_lists_and_groups(fleet, sprite, tmp_path):
    fleet.inside(sprite, "true")  # on a busy machine it has fallen asleep meanwhile
    done = ansible(fleet, "ansible-inventory", "--list")
    listed = json.loads(done.stdout)
    # What an API says is no template: ansible-core marks it so, also in this output.
    assert listed["_meta"]["hostvars"][sprite]["ansible_connection"] == {"__ansible_unsafe": "sprite"}
    assert sprite in listed["status_running"]["hosts"]
    other = tmp_path / "mine.sprites.yml"
    other.write_text("plugin: sprites\nlabels: [nobodys]\n")
    assert "lone-" not in ansible(fleet, "ansible-inventory", "-i", other, "--list").stdout
    other.write_text("plugin: sprites\nkeyed_groups: [{key: ocaptain_status, prefix: is}]\n")
    fleet.inside(sprite, "true")  # on a busy machine it has fallen asleep meanwhile
    assert "@is_running" in ansible(fleet, "ansible-inventory", "-i", other, "--graph").stdout


GOLDEN = """\
plugin: sprites
prefix: voyage-fedcba987654-
strict: true
compose:
  ansible_user: "'sprite'"
groups:
  first: ocaptain_ship == 'ship-0'
keyed_groups:
  - {key: ocaptain_labels, prefix: has}
"""
RENAMED = """\
plugin: sprites
prefix: voyage-fedcba987654-ship-1
label_selector: mine,!old
hostname: web-{{ my_ship_now }}-{{ my_labels_now[0] }}
hostvars_prefix: my_
hostvars_suffix: _now
group: fleet
keyed_groups:
  - {key: my_status_now, prefix: is}
"""
GRAPH = """\
@all:
  |--@ungrouped:
  |--@ocaptain:
  |  |--voyage-fedcba987654-ship-0
  |  |--voyage-fedcba987654-ship-1
  |--@status_running:
  |  |--voyage-fedcba987654-ship-0
  |  |--voyage-fedcba987654-ship-1
  |--@voyage_fedcba987654:
  |  |--voyage-fedcba987654-ship-0
  |  |--voyage-fedcba987654-ship-1
  |--@ship_0:
  |  |--voyage-fedcba987654-ship-0
  |--@first:
  |  |--voyage-fedcba987654-ship-0
  |--@has_mine:
  |  |--voyage-fedcba987654-ship-0
  |  |--voyage-fedcba987654-ship-1
  |--@ship_1:
  |  |--voyage-fedcba987654-ship-1
"""


def plain(value):
    """Without Ansible's mark that text of an API is no template."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if "__ansible_unsafe" in value else {k: plain(v) for k, v in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def test_golden_inventory(fleet, tmp_path):
    """All of ``--list`` and ``--graph``; of the variables only times, URLs and organisation are drydock's own."""
    ships = [f"voyage-fedcba987654-ship-{number}" for number in (0, 1)]
    golden = tmp_path / "golden.sprites.yml"
    golden.write_text(GOLDEN)
    for ship in ships:
        fleet.api("POST", "/v1/sprites", {"name": ship, "labels": ["mine"]})
    try:
        listed = plain(json.loads(ansible(fleet, "ansible-inventory", "-i", golden, "--list").stdout))
        renamed = tmp_path / "renamed.sprites.yml"
        renamed.write_text(RENAMED)
        others = plain(json.loads(ansible(fleet, "ansible-inventory", "-i", renamed, "--list").stdout))
        renamed.write_text("plugin: sprites\nprefix: voyage-fedcba987654-\nhostname: same\n")
        same = ansible(fleet, "ansible-inventory", "-i", renamed, "--list")
        graph = ansible(fleet, "ansible-inventory", "-i", golden, "--graph").stdout
    finally:
        for ship in ships:
            fleet.api("DELETE", f"/v1/sprites/{ship}")
    hosts = listed.pop("_meta")["hostvars"]
    assert listed == {
        "all": {
            "children": [
                "ungrouped", "ocaptain", "status_running", "voyage_fedcba987654",
                "ship_0", "first", "has_mine", "ship_1",
            ]
        },
        **{name: {"hosts": ships} for name in ("ocaptain", "status_running", "voyage_fedcba987654", "has_mine")},
        **{name: {"hosts": ships[:1]} for name in ("ship_0", "first")},
        "ship_1": {"hosts": ships[1:]},
    }  # fmt: skip
    for number, ship in enumerate(ships):
        found = hosts.pop(ship)
        assert all(found.pop(f"ocaptain_{name}") for name in ("created_at", "url", "organization"))
        assert found == {
            "ansible_connection": "sprite",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_user": "sprite",
            "ocaptain_labels": ["mine"],
            "ocaptain_provider": "drydock",
            "ocaptain_ship": f"ship-{number}",
            "ocaptain_sprite": ship,
            "ocaptain_status": "running",
            "ocaptain_voyage": "voyage-fedcba987654",
        }
    assert hosts == {}
    assert graph == GRAPH
    host = others["_meta"]["hostvars"].pop("web-ship-1-mine")
    assert others["_meta"]["hostvars"] == {}
    assert others["fleet"] == {"hosts": ["web-ship-1-mine"]} == others["is_running"]
    assert "ocaptain" not in others
    assert all(host.pop(f"my_{name}_now") for name in ("created_at", "url", "organization"))
    assert host == {
        "ansible_connection": "sprite",
        "ansible_python_interpreter": "/usr/bin/python3",
        "my_labels_now": ["mine"],
        "my_ship_now": "ship-1",
        "my_status_now": "running",
        "my_voyage_now": "voyage-fedcba987654",
        "ocaptain_provider": "drydock",
        "ocaptain_sprite": ships[1],
    }
    assert same.returncode != 0
    assert "would both be same; use ocaptain_sprite in it" in same.stderr


def test_a_drydock_that_does_not_run_is_empty_and_an_api_that_cannot_be_reached_is_an_error(tmp_path):
    lone = Sailor(tmp_path)
    # The environment's URL is for Sprites: no drydock is looked for there, and its token does not go there.
    drydock = {"OCAPTAIN_PROVIDER": "drydock", "SPRITES_API_URL": "http://127.0.0.1:9"}
    empty = ansible(lone, "ansible-inventory", "--list", env=drydock)
    assert empty.returncode == 0
    assert json.loads(empty.stdout)["_meta"]["hostvars"] == {}
    wrong = {"SPRITES_TOKEN": "canary-token", "SPRITES_API_URL": "http://127.0.0.1:9"}
    failed = ansible(lone, "ansible-inventory", "--list", env=wrong)
    assert failed.returncode != 0
    assert "cannot reach http://127.0.0.1:9" in failed.stderr
    assert "canary" not in failed.stdout + failed.stderr


def test_the_connection_runs_copies_fetches_and_becomes(fleet, sprite, tmp_path):
    before = fleet.metrics()["calls"][sprite]
    assert "pong" in ansible(fleet, "ansible", sprite, "-m", "ping").stdout
    after = fleet.metrics()["calls"][sprite]
    assert sum(after.values()) - sum(before.values()) == 1
    data = os.urandom(3_000_000)
    (tmp_path / "blob ü").write_bytes(data)
    tasks = f"""
- copy: {{src: "{tmp_path}/blob ü", dest: "/home/sprite/blob ü"}}
- fetch: {{src: "/home/sprite/blob ü", dest: "{tmp_path}/back", flat: true}}
- command: id -un
  become: true
  register: who
- command: sh -c "echo out; echo err >&2; exit 3"
  register: ended
  failed_when: ended.rc != 3 or ended.stdout != "out" or ended.stderr != "err"
- assert: {{that: who.stdout == "root"}}
- fetch: {{src: /nowhere, dest: "{tmp_path}/x", flat: true}}
  register: missing
  failed_when: not missing.failed
"""
    play(fleet, tasks, hosts=sprite)
    assert (tmp_path / "back").read_bytes() == data


def test_an_inventory_from_the_cache_asks_nobody(fleet, sprite, tmp_path):
    cached = tmp_path / "cached.sprites.yml"
    cached.write_text(
        "plugin: sprites\nprefix: lone-\nstatus: [running, warm, cold]\ncache: true\n"
        f"cache_plugin: ansible.builtin.jsonfile\ncache_connection: {tmp_path}/cache\ncache_timeout: 60\n"
    )
    first = ansible(fleet, "ansible-inventory", "-i", cached, "--list")
    assert sprite in json.loads(first.stdout)["_meta"]["hostvars"], first.stderr
    # Where the API refuses, the cache answers, with the same; without it the run fails.
    fleet.faults({"call": "GET /v1/sprites", "status": 400})
    try:
        again = ansible(fleet, "ansible-inventory", "-i", cached, "--list")
        assert json.loads(again.stdout) == json.loads(first.stdout)
        # A changed file never gets what the former one listed.
        text, url = cached.read_text(), fleet.drydock().url
        mine = {"SPRITES_TOKEN": "canary", "SPRITES_API_URL": url}
        for changed, env in (
            (text.replace("prefix: lone-", "prefix: lone"), {}),
            (f"{text}provider: sprites\n", mine),
            (f"{text}provider: drydock\napi_url: {url}\napi_token: canary\n", {}),
        ):
            cached.write_text(changed)
            assert ansible(fleet, "ansible-inventory", "-i", cached, "--list", env=env).returncode != 0, changed
        cached.write_text(text)
        assert ansible(fleet, "ansible-inventory", "-i", cached, "--list", "--flush-cache").returncode != 0
    finally:
        fleet.faults()
    assert "canary" not in "".join(path.read_text() for path in (tmp_path / "cache").glob("*"))


def test_filters_and_wrong_options_of_the_inventory(fleet, sprite, tmp_path):
    def hosts(text="", env=None):
        mine = tmp_path / "x.sprites.yml"
        mine.write_text(f"plugin: sprites\n{text}")
        done = ansible(fleet, "ansible-inventory", "-i", mine, "--list", env=env)
        return json.loads(done.stdout)["_meta"]["hostvars"].keys() if done.returncode == 0 else done.stderr

    assert sprite in hosts("labels: [mine]")
    assert sprite not in hosts("status: [cold]")
    assert "frozen" in hosts("status: [frozen]")
    assert "'a b' selects no labels" in hosts("label_selector: a b")
    assert sprite not in hosts("voyage: voyage-0123456789ab")
    assert sprite not in hosts(env={"OCAPTAIN_INVENTORY_PREFIX": "voyage-"})
    assert "provider" in hosts("provider: nobody")
    assert "there is no option label; there are " in hosts("label: [mine]")
    assert "voyage: 'voyage-1' is none" in hosts("voyage: voyage-1")
    record = fleet.drydock()
    assert sprite in hosts(f"api_url: {record.url}\napi_token: \"{{{{ lookup('file', '{record.token_file}') }}}}\"")
    vault = tmp_path / "vault"
    vault.write_text("of the vault")
    token = Path(record.token_file).read_text()
    vaulted = ansible(
        # A token may begin with a dash.
        *(fleet, "ansible-vault", "encrypt_string", "--vault-password-file", vault, "-n", "api_token", "--", token)
    )
    assert token not in vaulted.stdout
    unlocked = {"ANSIBLE_VAULT_PASSWORD_FILE": str(vault)}
    assert sprite in hosts(f"api_url: {record.url}\n{vaulted.stdout}", env=unlocked)
    wrong = hosts(f"api_url: {record.url}\napi_token: canary-token")
    assert "HTTP 401" in wrong
    assert "canary" not in wrong


def test_files_of_any_size_and_no_half_ones(fleet, sprite, tmp_path):
    big = tmp_path / "big"
    with big.open("wb") as file:  # more than one part; its pages differ
        for number in range(40):
            file.write(bytes([number]) * 2**20)
    tasks = f"""
- copy: {{src: "{big}", dest: /home/sprite/big, mode: "0640"}}
- fetch: {{src: /home/sprite/big, dest: "{tmp_path}/back", flat: true}}
- find: {{paths: [/home/sprite], patterns: ["*.part*", "*.parts*"], file_type: any}}
  register: scraps
  failed_when: scraps.matched > 0
"""
    play(fleet, tasks, hosts=sprite)
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


@pytest.fixture(scope="module")
def connection(fleet, sprite):
    """The plugin itself, by Ansible's own loader."""
    from ansible.playbook.play_context import PlayContext
    from ansible.plugins.loader import connection_loader

    connection_loader.add_directory(str(REPO / "plugins/connection"))
    record = fleet.drydock()
    token = Path(record.token_file).read_text()

    def make(**variables):
        made = connection_loader.get("sprite", PlayContext(), "/dev/null")
        known = {"ansible_host": sprite, "ocaptain_api_url": record.url, "ocaptain_api_token": token, **variables}
        made.set_options(var_options=known)
        return made

    return make


def test_input_output_and_exit_codes_are_exact(connection):
    one, data = connection(), os.urandom(10_000_000)
    assert one.exec_command("cat", in_data=data) == (0, data, b"")
    assert one.exec_command("printf 'ü\\000\\377'; printf err >&2; exit 201") == (201, "ü".encode() + b"\0\xff", b"err")
    assert one.exec_command("kill -KILL $$")[0] == 137
    assert one.exec_command("echo 'a  b' \"$(echo ☃)\"")[1].decode() == "a  b ☃\n"
    one.reset()
    assert one.exec_command("true")[0] == 0


def test_files_by_the_plugin(connection, tmp_path):
    from ansible.errors import AnsibleError, AnsibleFileNotFound

    one, source = connection(), tmp_path / "s ü"
    source.write_bytes(b"\0\xff" * 1000)
    one.put_file(str(source), "/home/sprite/new dir/ü ☃")
    one.fetch_file("/home/sprite/new dir/ü ☃", str(tmp_path / "t"))
    assert (tmp_path / "t").read_bytes() == source.read_bytes()
    with pytest.raises(AnsibleFileNotFound, match="no such file"):
        one.fetch_file("/home/sprite/nowhere", str(tmp_path / "u"))
    assert not (tmp_path / "u").exists()
    with pytest.raises(AnsibleFileNotFound):
        one.put_file(str(tmp_path / "nowhere"), "/home/sprite/x")
    with pytest.raises(AnsibleError, match="/proc/nowhere"):
        one.put_file(str(source), "/proc/nowhere/x")


def test_what_is_unreachable_and_what_has_failed(connection, fleet):
    from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError

    with pytest.raises(AnsibleAuthenticationFailure, match="HTTP 401"):
        connection(ocaptain_api_token="canary").exec_command("true")
    with pytest.raises(AnsibleConnectionFailure, match="HTTP 404"):
        connection(ansible_host="nobody").exec_command("true")
    with pytest.raises(AnsibleConnectionFailure, match="cannot connect"):
        connection(ocaptain_api_url="http://127.0.0.1:9").exec_command("true")
    # What is refused has failed: there is nothing that could not be reached.
    fleet.faults({"call": "* /v1/sprites/*/exec", "status": 400, "times": 1})
    with pytest.raises(AnsibleError, match="HTTP 400") as refused:
        connection().exec_command("true")
    assert not isinstance(refused.value, AnsibleConnectionFailure)
    # What breaks in the middle may have run: the host is unreachable, and the command is not run again.
    one = connection()
    fleet.faults({"call": "* /v1/sprites/*/exec", "kind": "cut", "messages": 2, "times": 1})
    with pytest.raises(AnsibleConnectionFailure):
        one.exec_command("echo once >> /home/sprite/runs; seq 100000; sleep 1")
    fleet.faults()
    assert one.exec_command("cat /home/sprite/runs")[1] == b"once\n"
    # The opening of a connection is tried again.
    fleet.faults({"call": "* /v1/sprites/*/exec", "status": 503, "times": 2})
    assert one.exec_command("echo fine")[1] == b"fine\n"
    fleet.faults()


def test_a_password_for_sudo(fleet, sprite):
    setup = """
- shell: |
    echo sprite:canary-pw | chpasswd
    echo 'sprite ALL=(ALL) PASSWD: ALL' > /etc/sudoers.d/zz-test
  become: true
  no_log: true
"""
    play(fleet, setup, hosts=sprite)
    who = "- command: id -un\n  become: true\n  register: who\n- assert: {that: who.stdout == 'root'}"
    try:
        done = play(fleet, who, hosts=sprite, ansible_become_password="canary-pw")
        assert "canary" not in done
        wrong = play(fleet, who, hosts=sprite, ok=False, ansible_become_password="canary-no")
        assert "the become password is wrong" in wrong
        assert "unreachable=0    failed=1" in wrong
        assert "canary" not in wrong
        missing = play(fleet, who, hosts=sprite, ok=False)
        assert "password" in missing
    finally:
        undo = "- file: {path: /etc/sudoers.d/zz-test, state: absent}\n  become: true"
        play(fleet, undo, hosts=sprite, ansible_become_password="canary-pw")
    # No password is asked for, and one is there: it is not taken for the module's input.
    play(fleet, who, hosts=sprite, ansible_become_password="canary-pw")


def test_what_is_not_to_be_logged_is_not_at_any_verbosity(fleet, sprite):
    """The command line of ``raw``, a module's arguments, a tree's files, a diff: shown without ``no_log``, or never."""
    tasks = """
- raw: echo canary-raw
  no_log: true
- command: echo canary-argument
  no_log: true
- tree: {dest: /home/sprite, files: [{path: told, content: canary-content, mode: "0600"}]}
- raw: echo seen; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c canary-content
  register: argv
  failed_when: "'1' in argv.stdout"  # this one's own argv must not count
- raw: echo shown-${SHELL:+all}
"""
    tasks = tasks.replace("grep -c canary-content", "grep -c canary[-]content")
    said = play(fleet, tasks, "-vvvv", "--diff", hosts=sprite)
    assert "EXEC echo shown-${SHELL:+all}" in said
    assert "canary-raw" not in said
    assert "canary-argument" not in said
    assert said.count("canary-content") == 0


def test_what_breaks_in_the_middle_is_unreachable_and_what_is_refused_has_failed(fleet, sprite):
    """As a play sees them: the next play of the run goes on with the one, not with the other."""
    fleet.faults({"call": "* /v1/sprites/*/exec", "kind": "cut", "messages": 2, "times": 1})
    cut = play(fleet, "- raw: echo once >> /home/sprite/cut; seq 100000; sleep 1", hosts=sprite, ok=False)
    assert "unreachable=1    failed=0" in cut
    fleet.faults({"call": "* /v1/sprites/*/exec", "status": 400, "times": 1})
    refused = play(fleet, "- ping:", hosts=sprite, ok=False)
    assert "unreachable=0    failed=1" in refused
    fleet.faults()
    assert fleet.inside(sprite, "cat /home/sprite/cut") == "once\n"


OUTSIDE = """
- apt: {name: "{{ package }}", update_cache: true}
  become: true
- user: {name: fred, shell: /bin/sh, groups: [games], append: true}
  become: true
- lineinfile: {path: /etc/profile.d/fred.sh, line: "export FRED='ü ☃'", create: true, mode: "0644"}
  become: true
- shell: >-
    git init -q upstream && cd upstream &&
    git -c user.name=f -c user.email=f@example.org commit -q --allow-empty -m first
  args: {chdir: /home/sprite, creates: /home/sprite/upstream/.git}
- git: {repo: /home/sprite/upstream, dest: /home/sprite/clone, version: HEAD}
- template: {src: "{{ here }}/greeting.j2", dest: "/home/sprite/greeting ü", mode: "0640"}
  notify: greeted
- unarchive: {src: "{{ here }}/things.tgz", dest: /home/sprite, creates: /home/sprite/things/one}
- command: sleep 2
  args: {creates: /home/sprite/waited}
  async: 300
  poll: 1
- file: {path: /home/sprite/waited, state: touch, access_time: preserve, modification_time: preserve}
"""


def test_what_others_wrote_runs_without_change(fleet, sprite, tmp_path):
    """A role in the manner of the well-known ones, of Ansible's own modules: it changes once, then nothing."""
    role = tmp_path / "roles/their.role"
    for part, text in {
        "tasks": OUTSIDE,
        "handlers": "- name: greeted\n  command: cp '/home/sprite/greeting ü' /home/sprite/greeted\n",
        "defaults": f"here: {tmp_path}\npackage: hello\n",
    }.items():
        (role / part).mkdir(parents=True)
        (role / part / "main.yml").write_text(f"---{os.linesep}{text}")
    (tmp_path / "greeting.j2").write_text("Hello {{ inventory_hostname }}, this is ü ☃\n")
    (tmp_path / "things").mkdir()
    (tmp_path / "things/one").write_bytes(os.urandom(100_000))
    subprocess.run(["tar", "-C", tmp_path, "-czf", tmp_path / "things.tgz", "things"], check=True, timeout=240)
    tasks = f"- include_role: {{name: {role}}}"
    first = play(fleet, tasks, hosts=sprite)
    assert "failed=0" in first
    assert "changed=10" in first
    again = play(fleet, tasks, hosts=sprite)
    assert "changed=0" in again, again
    said = fleet.inside(
        sprite,
        "cat greeted; stat -c %a:%U greeting*; id fred; . /etc/profile.d/fred.sh; echo $FRED; ls things clone/.git",
    )
    assert f"Hello {sprite}, this is ü ☃\n" in said
    assert "640:sprite" in said
    assert "games" in said
    assert "\nü ☃\n" in said
    assert "HEAD" in said


def test_console_reset_and_waiting(fleet, sprite):
    tasks = "- wait_for_connection: {timeout: 120}\n- meta: reset_connection\n- ping:"
    play(fleet, tasks, hosts=sprite)
    done = subprocess.run(
        [str(BIN / "ansible-console"), sprite],
        input="command id -un\nexit\n",
        env={**fleet.env, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert f"{sprite} | CHANGED" in done.stdout, done.stdout + done.stderr


def test_checkpoints_and_policies(fleet, sprite):
    def sprites(state, *arguments, ok=True, checkpoint="first"):
        task = f"- sprite: {{names: [{sprite}], state: {state}, checkpoint: {checkpoint}}}"
        return play(fleet, task, *arguments, ok=ok)

    fleet.inside(sprite, "echo before > /home/sprite/state")
    assert "changed=1" in sprites("checkpointed", "--check")
    assert "no checkpoint 'first'" in sprites("restored", ok=False)
    assert "changed=1" in sprites("checkpointed")
    assert "changed=0" in sprites("checkpointed")
    fleet.inside(sprite, "echo after > /home/sprite/state")
    assert "changed=1" in sprites("restored", "--check")
    assert fleet.inside(sprite, "cat /home/sprite/state") == "after\n"
    assert "changed=1" in sprites("restored")
    assert fleet.inside(sprite, "cat /home/sprite/state") == "before\n"
    policy = "- sprite_policy: {allow: [api.example.org], deny: [bad.example.org], defaults: true}"
    assert "changed=1" in play(fleet, policy, "--check", "--diff", hosts=sprite)
    assert "changed=1" in play(fleet, policy, hosts=sprite)
    assert "changed=0" in play(fleet, policy, hosts=sprite)
    rules = fleet.api("GET", f"/v1/sprites/{sprite}/policy/network").json()["rules"]
    assert rules == [
        {"include": "defaults"},
        {"domain": "api.example.org", "action": "allow"},
        {"domain": "bad.example.org", "action": "deny"},
    ]
    assert "changed=1" in play(fleet, "- sprite_policy:", hosts=sprite)
    wrong = "- sprite_policy: {allow: ['no domain at all/']}"
    assert play(fleet, wrong, hosts=sprite, ok=False)


def test_a_command_has_its_own_time_not_that_of_a_connect(fleet, sprite):
    play(fleet, "- command: sleep 12", hosts=sprite, ansible_timeout=10)
    late = play(fleet, "- command: sleep 30", hosts=sprite, ok=False, ocaptain_command_timeout=2)
    assert "did not end in 2 s and was killed" in late
    assert "failed=1" in late


def test_a_sprite_that_is_gone_is_unreachable(fleet):
    host = "{name: nobody, ansible_connection: sprite, ocaptain_provider: drydock}"
    tasks = f"- add_host: {host}\n- ping: {{}}\n  delegate_to: nobody"
    assert "UNREACHABLE" in play(fleet, tasks, ok=False)


def test_trees_and_services_are_idempotent_and_clean_in_check_mode(fleet, sprite):
    tasks = """
- tree:
    dest: /home/sprite/planted
    files:
      - {path: a/b, content: "{{ text }}", mode: "0600"}
- sprite_service: {name: napper, cmd: sleep, args: ["600"]}
"""
    first = play(fleet, tasks, "--check", hosts=sprite, text="x {{ 1 + 1 }}")
    assert "changed=2" in first
    assert "changed=2" in play(fleet, tasks, hosts=sprite, text="x")
    assert "changed=0" in play(fleet, tasks, hosts=sprite, text="x")
    assert "changed=1" in play(fleet, tasks, hosts=sprite, text="y")
    wrong = "- tree: {dest: /x, files: [{path: ../y, content: z}]}"
    assert "must be relative" in play(fleet, wrong, hosts=sprite, ok=False)


def test_the_role_alone_twice(fleet, sprite):
    tasks = "- include_role: {name: tmux-agent}"
    assert "changed=2" in play(fleet, tasks, "--check", "--diff", hosts=sprite)
    assert fleet.inside(sprite, "ls -A .ocaptain voyage 2>/dev/null; true") == ""
    assert "changed=2" in play(fleet, tasks, hosts=sprite)
    assert "changed=0" in play(fleet, tasks, hosts=sprite)
    assert "changed=0" in play(fleet, tasks, "--check", hosts=sprite)


def test_the_claude_role_on_a_host_without_the_cli(fleet, sprite):
    """Check mode does not fail; what is missing is said with the remedy, and no secret."""
    role = "include_role: {name: claude}"
    variables = {"claude_pin": True, "claude_version": "0.0.1", "claude_oauth_token": "canary-of-a-token"}
    tasks = f"""
- block: [{{{role}, vars: {{claude_install: false}}}}]
  rescue: [debug: {{msg: "first: {{{{ ansible_failed_result.msg }}}}"}}]
- raw: sudo rm /usr/bin/npm /usr/bin/node; command -v npm; true
- block: [{{{role}}}]
  rescue: [debug: {{msg: "then: {{{{ ansible_failed_result.msg }}}}"}}]
"""
    said = " ".join(play(fleet, tasks, "-vv", hosts=sprite, **variables).split())
    assert f"first: Claude Code 0.0.1 is not on {sprite}, and claude_install is false" in said
    assert f"then: Claude Code 0.0.1 is not on {sprite}, and npm and Node are not there to install it" in said
    checked = play(fleet, f"- {role}", "--check", "-vv", hosts=sprite, **variables)
    assert "changed=1" in checked
    assert "canary" not in checked + said


def test_sprites_in_check_mode_are_not_made(fleet):
    made = f"never-{uuid.uuid4().hex[:8]}"
    assert "changed=1" in play(fleet, f"- sprite: {{names: [{made}]}}", "--check")
    assert made not in fleet.metrics()["calls"] or "POST" not in fleet.metrics()["calls"][made]
    assert "changed=0" in play(fleet, f"- sprite: {{names: [{made}], state: absent}}")


def documented(kind):
    """What ansible-doc says of every plugin of a kind that we have."""
    folder = {"inventory": "inventory_plugins", "module": "plugins/modules"}.get(kind, f"plugins/{kind}")
    ours = sorted(path.stem for path in (REPO / folder).glob("*.py"))
    env = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")}
    argv = [str(BIN / "ansible-doc"), "-t", kind, "--json", *ours]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False, timeout=240, env=env)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == ours
    return found


@pytest.mark.parametrize("kind", ["inventory", "connection", "module"])
def test_every_plugin_is_documented(kind):
    for name, said in documented(kind).items():
        assert said["doc"]["short_description"], name
        assert all(option.get("description") for option in said["doc"]["options"].values()), name
        assert kind == "connection" or f"{name}:" in said["examples"] or f"plugin: {name}" in said["examples"], name
        if kind == "module":
            assert said["return"], name
            assert shape(said["doc"]["options"]) == shape(options_of(name)), name


def shape(options):
    """What documentation and specification of options must agree on."""
    keys = ("type", "elements", "choices", "default")
    return {name: (bool(about.get("required")), *(about.get(key) for key in keys)) for name, about in options.items()}


def options_of(name):
    """Return the options that an action takes."""
    from ansible.plugins.loader import action_loader

    action_loader.add_directory(str(REPO / "plugins/action"))
    return action_loader.get(name, class_only=True).SPEC


def test_every_role_is_documented():
    names = sorted(path.name for path in (REPO / "roles").iterdir() if not path.is_symlink())
    argv = [str(BIN / "ansible-doc"), "-t", "role", "-r", "roles", "--json", *names]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == names
    for name in names:
        options = found[name]["entry_points"]["main"]["options"]
        assert all(option.get("description") for option in options.values())
        written = yaml.safe_load((REPO / "roles" / name / "defaults/main.yml").read_text())
        assert set(written) <= set(options), name
