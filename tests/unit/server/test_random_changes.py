"""Whatever is done in whatever order, with restarts and kills between: a server has what a plain dictionary has."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mplus import MPlusModel
from mplus.server.engine import Engine, SourceText
from mplus.server.memories.place import Place
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from tests.unit.server.serving import copied_at_one_moment, texts

SCOPES = [Scope("acme", "anna"), Scope("acme", "ben"), Scope("umbrella", "anna")]
SOURCES = ["a", "b", "ç/ 1"]
ACTS = st.tuples(
    st.sampled_from(
        [
            "write",
            "write",
            "write",
            "write_all",
            "forget",
            "replace",
            "note",
            "delete",
            "fork",
            "merge",
            "move",
            "save",
            "stop",
            "kill",
        ]
    ),
    st.sampled_from(SCOPES),
    st.sampled_from(SOURCES),
    st.integers(1, 90),
)
State = dict[Scope, dict[str, list[Any]]]
"""Per memory and source its text and its note."""


class Server:
    """An engine beside the dictionary that it is to be like."""

    def __init__(self, model: MPlusModel, place: Path) -> None:
        self.model, self.place, self.state, self.count = model, place, State(), 0
        self.engine = Engine(model, ServerSettings(home=self.home))

    @property
    def home(self) -> Path:
        return self.place / str(self.count)

    async def do(self, what: str, scope: Scope, source: str, number: int) -> None:
        """One act, in the engine and the dictionary, as far as it can be done."""
        have = self.state.get(scope)
        text = f"{number} {scope.memory} and {source}." * (1 + number // 10)
        if what in ("stop", "kill"):
            await self.restart(killed=what == "kill")
        elif what == "write":
            await self.engine.write(scope, text, source=source, note={"n": number} if number % 2 else None)
            self.wrote(scope, source, text, number)
        elif what == "write_all":
            await self.engine.write_all(scope, [SourceText(source=f"{source}{n}", text=text, note={"n": 1}) for n in range(3)])
            for n in range(3):
                self.wrote(scope, f"{source}{n}", text, 1)
        elif have is None:
            return
        elif what in ("forget", "replace", "note"):
            await self.correct(what, scope, source, text, number)
        else:
            await self.whole(what, scope, SCOPES[number % 2])

    def wrote(self, scope: Scope, source: str, text: str, number: int) -> None:
        entry = self.state.setdefault(scope, {}).setdefault(source, ["", {}])
        entry[0] += text
        if number % 2:
            entry[1] = {"n": number}

    async def correct(self, what: str, scope: Scope, source: str, text: str, number: int) -> None:
        have = self.state[scope]
        if source not in have:
            return
        if what == "forget":
            await self.engine.forget(scope, [source])
            del have[source]
        elif what == "replace":
            await self.engine.replace(scope, source, text)
            have[source] = [text, have.pop(source)[1]]
        else:
            await self.engine.note(scope, source, {"noted": number})
            have[source][1] = {"noted": number}

    async def whole(self, what: str, scope: Scope, other: Scope) -> None:
        have = self.state[scope]
        if what == "delete":
            await self.engine.delete(scope)
            del self.state[scope]
        elif what == "save":
            await self.engine.snapshot(scope)
        elif what == "merge" and other in self.state and other.tenant == scope.tenant and other != scope:
            prefix = f"{len(have)}-"
            if not any(name.startswith(prefix) for name in have):
                await self.engine.merge(scope, other, prefix=prefix)
                have |= {prefix + name: list(entry) for name, entry in self.state[other].items()}
        elif what in ("fork", "move") and other not in self.state and other.tenant == scope.tenant:
            if what == "fork":
                await self.engine.fork(scope, other)
            else:
                archive = self.place / "archive.mplus"
                await self.engine.export(scope, archive)
                await self.engine.import_(other, archive)
            self.state[other] = {name: list(entry) for name, entry in have.items()}

    async def restart(self, *, killed: bool) -> None:
        """Stop and start; or go on with a copy of the files as they are, as after a kill."""
        before = self.home
        if killed:
            self.count += 1
            copied_at_one_moment(before, self.home)
        await self.engine.stop()
        self.engine = Engine(self.model, ServerSettings(home=self.home))
        await self.engine.start()

    async def check(self) -> None:
        """Compare all memories, sources, texts and notes."""
        for tenant in {scope.tenant for scope in SCOPES}:
            ids = [one.id for one in await self.engine.memories(tenant)]
            assert ids == sorted(scope.memory for scope in self.state if scope.tenant == tenant)
        for scope, have in self.state.items():
            assert await texts(self.engine, scope) == {name: entry[0] for name, entry in have.items()}
            assert {one.name: one.note for one in await self.engine.sources(scope)} == {name: e[1] for name, e in have.items()}
            record = await self.engine.memory(scope)
            assert record.sources == len(have)
            assert Place(self.home, scope).record.exists()


@settings(
    max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck)
)
@given(acts=st.lists(ACTS, min_size=5, max_size=20))
def test_a_server_has_what_a_dictionary_has(text_model: MPlusModel, acts: list[tuple[str, Scope, str, int]]) -> None:
    async def run(place: Path) -> None:
        server = Server(text_model, place)
        await server.engine.start()
        try:
            for act in acts:
                await server.do(*act)
            await server.check()
            await server.restart(killed=True)
            await server.check()
        finally:
            await server.engine.stop()

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(run(Path(place)))
