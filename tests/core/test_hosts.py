"""The hosts file: what mlx.launch would stumble over is said beforehand, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.distributed import hosts
from core.errors import ConfigProblem

TWO = [{"ssh": "studio.local", "ips": ["192.168.7.1"]}, {"ssh": "mini.local", "ips": ["192.168.7.2"]}]


def written(folder: Path, content: object) -> Path:
    file = folder / "hosts.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_a_plain_list_and_a_table_are_read_and_the_first_is_started_here(tmp_path: Path) -> None:
    plain = hosts.read(written(tmp_path, TWO))
    assert (plain.names, plain.backend, plain.envs) == (("studio.local", "mini.local"), "", ())
    table = hosts.read(written(tmp_path, {"backend": "ring", "envs": ["A=1"], "hosts": TWO}))
    assert (table.backend, table.envs) == ("ring", ("A=1",))
    assert [host["ssh"] for host in table.as_launched(2)["hosts"]] == ["127.0.0.1", "mini.local"]
    assert table.as_launched(1)["hosts"] == [{"ssh": "127.0.0.1", "ips": ["192.168.7.1"]}]


def test_as_many_hosts_take_part_as_share_the_machines_evenly(tmp_path: Path) -> None:
    four = hosts.read(written(tmp_path, TWO * 2))
    assert [four.taking_part(machines) for machines in (1, 2, 3, 4, 5, 6, 8)] == [1, 2, 3, 4, 1, 3, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ('"mini.local"', "must hold a list of hosts"),
        ([], "lists 0 hosts; it can be 1 to 64"),
        ([*TWO, {"ips": ["192.168.7.3"]}], 'has None for "ssh" of host 3'),
        ([*TWO, {"ssh": "-oProxyCommand=x", "ips": ["1.2.3.4"]}], "it must be a name that ssh knows"),
        ([*TWO, {"ssh": "third.local"}], 'has None for "ips" of host 3'),
        ({"backend": "smoke", "hosts": TWO}, "names the backend 'smoke'; it can be ring, jaccl, jaccl-ring, nccl"),
        ({"envs": {"A": 1}, "hosts": TWO}, 'it must be a list such as ["NAME=value"]'),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(ConfigProblem) as caught:
        hosts.read(written(tmp_path, content))
    assert words in str(caught.value)


def test_everything_wrong_is_said_at_once_and_a_missing_file_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem) as caught:
        hosts.read(written(tmp_path, {"backend": "smoke", "hosts": [{"ssh": ""}, {"ssh": "mini.local", "ips": [1]}]}))
    assert len(caught.value.problems) == 3  # with another backend than the ring, the first host alone needs an address
    with pytest.raises(ConfigProblem, match="cannot be read: No such file"):
        hosts.read(tmp_path / "none.json")
