"""Scenario files: what is refused, and what the reference page says of them."""

import re
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest

from trimtab.errors import ConfigError
from trimtab.sim import library
from trimtab.sim.happenings import KINDS
from trimtab.sim.reading import rule_of
from trimtab.sim.run import run
from trimtab.sim.scenario import (
    Clients,
    Load,
    Network,
    Scenario,
    Servers,
    Service,
    load_scenario,
    places,
)

PAGE = Path(__file__).parents[2] / "docs/reference/scenarios.md"
SECTIONS = {
    "The file": Scenario,
    "`clients`": Clients,
    "`servers`": Servers,
    "`load`": Load,
    "`service`": Service,
    "`network`": Network,
} | {f"`kind: {name}`": cls for name, cls in KINDS.items()}

BAD = [
    ({"load": {"rho": -1}}, "load.rho: -1: is not a number above 0"),
    ({"load": {"rho": float("nan")}}, "load.rho: nan: is not a number above 0"),
    ({"load": {"rho": True}}, "load.rho: True: is not a number"),
    ({"load": {}}, "load.rho: None: an open loop needs either rho or rate"),
    ({"load": {"rho": 0.5, "rate": 3}}, "needs either rho or rate"),
    ({"load": {"loop": "closed", "callers": 2}}, "requests: 4000: a closed loop needs seconds"),
    ({"load": {"loop": "ajar"}}, "load.loop: 'ajar': is none of open, closed"),
    ({"load": 0.8}, "load: 0.8: is no mapping; known keys: loop, rho"),
    ({"clients": {"cuont": 1}}, "clients.cuont: 1: unknown key; known here: count, zones"),
    ({"clients": {"count": 1, "zones": {"a": 1}}}, "clients.count: 1: give either count or zones"),
    ({"clients": {"zones": {1: 2}}}, "clients.zones: 1: is no name; quote it"),
    ({"servers": {"count": 1, "zone_speed": {"q": 1}}}, "servers.zone_speed.q: 1.0: no such zone"),
    ({"servers": {"count": 2.5}}, "servers.count: 2.5: is not a whole number from 1"),
    ({"servers": {"count": 1, "speed": 2}}, "servers.speed: 2: is no list"),
    ({"servers": {"count": 1, "speed": [1, 0]}}, "servers.speed[1]: 0: is not a number above 0"),
    ({"service": {}}, "service.mean_ms: None: give the mean service time"),
    ({"service": {"shape": "trace"}}, "service.file: None: shape: trace needs either"),
    ({"service": {"shape": "trace", "file": "no.csv"}}, "no.csv: cannot be read"),
    ({"policies": []}, "policies: []: is no list of policies"),
    ({"policies": ["p2", "p2c"]}, "policies[0]: policy 'p2' is unknown; known are"),
    ({"policies": [{"name": "token", "size": 0}]}, "policies[0]: policy token: parameter size"),
    ({"policies": [{"name": "p2c", "eject_s": -1}]}, "policies[0]: policy p2c: parameter eject_s"),
    ({"policies": [{"name": "p2c", "x": [1]}]}, "policies[0].x: [1]: a parameter is a number"),
    ({"policies": ["p2c", "p2c"]}, "policies[1].label: 'p2c': each policy needs a label"),
    ({"policies": [{"size": 1}]}, "policies[0]: {'size': 1}: is no policy"),
    ({"events": {"kind": "gone"}}, "events: {'kind': 'gone'}: is no list of events"),
    ({"events": [{"kind": "gon"}]}, "events[0].kind: 'gon': is none of speed, antagonist"),
    ({"events": [{"kind": "gone", "pods": 1}]}, "events[0].at_s: is missing"),
    ({"events": [{"kind": "gone", "at_s": 1}]}, "events[0].pods: None: say which pods"),
    (
        {"events": [{"kind": "gone", "at_s": 1, "pods": 1, "part": 0.5}]},
        "events[0].part: 0.5: give either pods or part",
    ),
    ({"events": [{"kind": "gone", "at_s": 0, "zone": "q"}]}, "events[0].zone: 'q'"),
    ({"events": [{"kind": "gone", "at_s": 99, "pods": 1}]}, "the run ends at 3.57 s"),
    ({"seeds": [1, 1]}, "seeds: [1, 1]: a seed stands twice"),
    ({"bounds": "yes"}, "bounds: 'yes': is neither true nor false"),
    ({"warmup_s": 10}, "warmup_s: 10.0: the run lasts 3.57"),
    ({"seconds": 5}, "seconds: 5.0: give either requests or seconds"),
    ({"title": None}, "title: is missing: what it shows"),
]


@pytest.mark.parametrize(("changes", "told"), BAD, ids=[told[:40] for _, told in BAD])
def test_a_wrong_key_is_refused_with_its_path_and_what_would_be_right(changes, told, scenario):
    with pytest.raises(ConfigError) as refused:
        scenario(**changes)
    assert told in str(refused.value)
    assert "test.yaml: " in str(refused.value) or "no.csv" in told


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2", "a: &x 1\nb: *x", "", "7", "\xff"])
def test_a_file_that_is_no_scenario_is_refused_with_its_name(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_scenario(path)


@pytest.mark.parametrize("name", library.names())
def test_every_scenario_of_the_library_is_valid(name):
    _, found = library.find(name)
    assert found.title
    assert found.length_s() > found.measured_from_s()


@pytest.mark.parametrize("name", library.names())
def test_every_scenario_of_the_library_runs_with_each_of_its_policies(name):
    _, found = library.find(name)
    few = found.load  # a fiftieth of its requests, in the same time
    if few.loop == "closed":
        few = replace(few, think_ms=few.think_ms + 500.0)
    else:
        few = replace(few, rho=None, rate=found.rate() / 50)
    short = replace(found, load=few, seconds=found.length_s(), requests=None, seeds=(1,))
    for row in run(short, lambda: 0.0, lambda *_: None):
        assert row.runs[0].requests > 0
        assert row.runs[0].p99_ms > 0


def test_the_reference_lists_the_library_with_its_titles():
    body = PAGE.read_text().partition("\n## The library\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", body, re.MULTILINE))
    assert told == {name: library.find(name)[1].title for name in library.names()}


def test_capacity_counts_speeds_and_zones(scenario):
    found = scenario(
        servers={"zones": {"a": 2, "b": 2}, "workers": 3, "speed": [1, 0.5], "zone_speed": {"b": 2}}
    )
    assert found.servers.placed() == ["a", "b", "a", "b"]
    assert found.servers.capacity() == pytest.approx(3 * (1 + 0.5 * 2 + 1 + 0.5 * 2))
    assert found.rate() == pytest.approx(0.7 * 12 / 0.010)


def test_zones_take_turns_so_that_speeds_fall_on_all_of_them():
    assert places(None, {"a": 4, "b": 2}) == ["a", "b", "a", "a", "b", "a"]


def described(heading):
    """The keys of a section's table."""
    body = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {
        row[0]: row[1:]
        for row in re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", body, re.MULTILINE)
    }


@pytest.mark.parametrize(("heading", "cls"), SECTIONS.items(), ids=list(SECTIONS))
def test_the_reference_lists_every_key_its_default_and_meaning(heading, cls):
    told = described(heading)
    hints = get_type_hints(cls)
    assert set(told) == {f.name for f in fields(cls)}, hints
    for field in fields(cls):
        default, meaning = (text.strip() for text in told[field.name])
        assert meaning == rule_of(field).doc
        required = field.default is MISSING and field.default_factory is MISSING
        assert (default == "required") is required
        if field.default is not MISSING and isinstance(field.default, bool | int | float | str):
            shown = field.default
            assert default == (str(shown).lower() if isinstance(shown, bool) else f"{shown}")
