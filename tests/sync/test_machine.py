"""Any interleaving of what ships do ends with one session for each that is at work, and none for those that are not.

The model is Mutagen as it was observed: names may be double, a call that failed may have taken effect, sessions halt,
all are lost with the data directory; and whoever resumes a session on another sprite's files deletes the mirror.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain.sync.spec import Act, Create, Line, MoveAway, Session, wanted

SHIPS = ("ship-0", "ship-1", "ship-2")
ROUNDS = 4


class Model:
    def __init__(self):
        self.at_work = dict.fromkeys(SHIPS, False)
        self.lost = dict.fromkeys(SHIPS, False)
        self.sprite = dict.fromkeys(SHIPS, 1)
        self.sessions = []
        self.kept = {}  # what the folders have
        self.saved = []  # folders that were moved away
        self.resumed = frozenset()
        self.made = 0

    def origin(self, ship):
        return f"{ship}-sprite-{self.sprite[ship]}"

    # -- what happens ------------------------------------------------------------------------

    def happen(self, event, ship, luck):
        mine = [one for one in self.sessions if one.ship == ship]
        match event:
            case "begins":
                self.at_work[ship], self.lost[ship] = True, False
            case "rests":
                self.at_work[ship] = False
            case "lost":
                self.at_work[ship], self.lost[ship] = False, True
            case "reborn":
                self.at_work[ship], self.lost[ship] = luck, False
                self.sprite[ship] += 1
            case "halts" if mine:
                self.change(mine[0], status="halted-on-root-emptied")
            case "doubles" if mine:
                self.add(mine[0])
            case "stranger":
                self.add(Session("", "", "", 0, "watching"))
            case "data lost":
                self.sessions = []
            case "look":
                self.look(luck)

    def add(self, like):
        self.made += 1
        self.sessions.append(replace(like, id=f"s{self.made}"))

    def change(self, old, **more):
        self.sessions = [replace(one, **more) if one.id == old.id else one for one in self.sessions]

    # -- one comparison, as the captain makes it -----------------------------------------------

    def look(self, all_goes_well=True):
        lines = [
            Line("voyage-1", ship, ship, self.origin(ship), 1, "voyage", f"/m/{ship}")
            for ship in SHIPS
            if self.at_work[ship]
        ]
        resting = frozenset(ship for ship in SHIPS if not self.at_work[ship] and not self.lost[ship])
        steps = wanted(lines, resting, list(self.sessions), dict(self.kept), resumed=self.resumed)
        self.resumed = frozenset(one.id for one in self.sessions if one.is_halted)
        for number, step in enumerate(steps):
            if not all_goes_well and number % 2:
                if isinstance(step, Create):
                    self.do(step)  # it is said to have failed, and took effect
                break
            self.do(step)
        return steps

    def do(self, step):
        if isinstance(step, Create):
            ship, origin = step.line.ship, step.line.origin
            assert self.kept.get(ship, origin) == origin, "a folder has files of one sprite alone"
            self.kept[ship] = origin
            self.add(Session("", ship, origin, step.line.generation, "watching"))
        elif isinstance(step, MoveAway):
            assert not [one for one in self.sessions if one.ship == step.ship], "nobody writes there any more"
            self.saved.append(self.kept.pop(step.ship))
        else:
            (session,) = [one for one in self.sessions if one.id == step.session]
            if step.verb == "terminate":
                self.sessions.remove(session)
            elif step.verb == "pause":
                self.change(session, paused=True)
            else:
                assert session.origin == self.origin(session.ship), "it would delete what the lost sprite left"
                assert self.at_work[session.ship], "it would wake the ship"
                self.change(session, paused=False, status="watching")


EVENTS = ("begins", "rests", "lost", "reborn", "halts", "doubles", "stranger", "data lost", "look")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(SHIPS), st.booleans()), max_size=30))
def test_any_interleaving_converges(events):
    model = Model()
    for event, ship, luck in events:
        model.happen(event, ship, luck)
    for _ in range(ROUNDS):
        model.look()
    assert model.look() == []
    for ship in SHIPS:
        mine = [one for one in model.sessions if one.ship == ship]
        dialling = [one for one in mine if not one.paused]
        if model.at_work[ship]:
            (only,) = mine
            assert (only.paused, only.status, only.origin) == (False, "watching", model.origin(ship))
        else:
            assert dialling == []
            assert len(mine) <= 1
        if model.lost[ship]:
            assert mine == []
            assert ship not in model.kept
    assert {one.ship for one in model.sessions} <= set(SHIPS)
    assert len(model.saved) == len(set(model.saved)) or model.saved, "each that was lost is kept"


def test_a_model_that_is_never_looked_at_would_fail():
    model = Model()
    model.happen("begins", "ship-0", True)
    assert model.look() == [Create(Line("voyage-1", "ship-0", "ship-0", "ship-0-sprite-1", 1, "voyage", "/m/ship-0"))]
    model.happen("reborn", "ship-0", True)
    assert model.look()[:2] == [Act("terminate", "s1", "ship-0"), MoveAway("ship-0")]
