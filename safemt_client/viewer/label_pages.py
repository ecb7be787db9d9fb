"""The pages on which people label a sample, and adjudicate where they are split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.criteria import Criteria, criteria_of
from safemt_client.results.scores.human import REFUSALS, pictures_of
from safemt_client.results.scores.people import people_agreement
from safemt_client.viewer.annotators import annotator_of, checked, remember
from safemt_client.viewer.desk import Desk
from safemt_client.viewer.labelling import SIZE, Given, Item, Labelling, Sample
from safemt_client.viewer.pages import Page, Render
from safemt_client.viewer.pictures import Pictures
from safemt_client.viewer.queries import Queries

__all__ = ["LabelPages"]

_MOST = 100_000
_CHANCE = "chance"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an address or a form asks for."""

    run: str
    judge: str
    size: int
    at: int | None
    turn: int | None
    by_chance: bool = False

    @classmethod
    def read(cls, given: Any) -> _Asked:
        size = _number(given.get("n"))
        at, turn = _number(given.get("at")), _number(given.get("turn"))
        return cls(
            given.get("run", ""),
            given.get("judge", ""),
            SIZE if size is None else min(max(1, size), _MOST),
            None if at is None else at - 1,
            turn,
            given.get("by") == _CHANCE,
        )

    def query(self, *, at: int | None, turn: int | None = None) -> str:
        """As the parameters of an address; places are counted from 1 there."""
        values = {"run": self.run, "judge": self.judge, "n": self.size, "turn": turn}
        values["by"] = _CHANCE if self.by_chance else None
        values["at"] = None if at is None else at + 1
        return urlencode({name: value for name, value in values.items() if value not in ("", None)})


class LabelPages:
    """Routes of the application; `render` makes pages, and `safely` shows errors of the user as one."""

    def __init__(
        self, queries: Queries, desk: Desk, pictures: Pictures, render: Render, safely: Callable[[Page], Page]
    ) -> None:
        self._queries = queries
        self._desk = desk
        self._pictures = pictures
        self._render = render
        self._safely = safely
        self._labelling = Labelling(queries, desk)

    def routes(self) -> list[Route]:
        """The routes."""
        pages: tuple[tuple[str, Page, str], ...] = (
            ("/label", self._start, "GET"),
            ("/label/start", self._begin, "POST"),
            ("/label/next", self._next, "GET"),
            ("/label/next", self._save, "POST"),
            ("/label/undo", self._undo, "POST"),
            ("/adjudicate", self._splits, "GET"),
            ("/adjudicate/next", self._split, "GET"),
            ("/adjudicate/next", self._decide, "POST"),
            ("/adjudicate/undo", self._undo_decision, "POST"),
        )
        return [Route(path, self._safely(page), methods=[method]) for path, page, method in pages]

    def _start(self, request: Request) -> Response:
        """Who labels which sample."""
        asked = _Asked.read(request.query_params)
        runs = [run for run in self._queries.runs() if run["judges"]]
        with self._desk.people() as people:
            rows = people.query("SELECT DISTINCT annotator FROM human_labels ORDER BY 1").rows
        return self._render(
            request,
            "label_start.html",
            runs=runs,
            asked=asked,
            names=[row[0] for row in rows],
            criteria=self._criteria(None),
            annotator=annotator_of(request),
            held=self._desk.held,
        )

    def _sample(self, asked: _Asked, *, anew: bool = False) -> Sample:
        return self._labelling.sample(
            asked.run, asked.judge, asked.size, by_chance=asked.by_chance, anew=anew
        )

    def _criteria(self, run_id: str | None) -> list[Criteria]:
        """The criteria of the judges of a run, or of all."""
        with self._desk.people() as people:
            return [one for one in criteria_of(people, run_id) if one.texts or run_id is not None]

    def _begin(self, request: Request) -> Response:
        form = request.state.form
        asked = _Asked.read(form)
        name = checked(form.get("name", ""))
        # Drawn here, so that a wrong run or judge is said here; and anew if the store has grown.
        drawn = self._sample(asked, anew=True)
        asked = replace(asked, run=drawn.run_id, at=None, turn=None)
        response = RedirectResponse(f"/label/next?{asked.query(at=None)}", 303)
        remember(response, name)
        return response

    def _next(self, request: Request) -> Response:
        asked = _Asked.read(request.query_params)
        annotator = annotator_of(request)
        if not annotator:
            return RedirectResponse(f"/label?{asked.query(at=None)}", 303)
        return self._page(request, asked, annotator)

    def _page(self, request: Request, asked: _Asked, annotator: str, problem: str | None = None) -> Response:
        """The reply at the place that is asked for, or the next one that the person has not labelled."""
        drawn = self._sample(asked)
        given = self._labelling.given(annotator)
        item, done = self._labelling.item(drawn, given, asked.at, asked.turn)
        if item is None and asked.at is None:
            drawn = self._sample(asked, anew=True)
            item, done = self._labelling.item(drawn, given, None)
        asked = replace(asked, run=drawn.run_id)
        response = self._shown(request, asked, item, annotator, done, len(drawn.candidates), problem)
        if item is not None and item.at + 1 < len(drawn.candidates):
            self._pictures.have_ready(drawn.run_id, pictures_of(drawn.candidates[item.at + 1]))
        return response

    def _shown(
        self,
        request: Request,
        asked: _Asked,
        item: Item | None,
        annotator: str,
        done: int,
        total: int,
        problem: str | None,
        people: list[dict[str, Any]] | None = None,
    ) -> Response:
        """The page of a reply, which shows what `people` said only where it is adjudicated."""
        base = "/label" if people is None else "/adjudicate"
        if item is not None and request.headers.get("hx-request") is None and asked.at is None:
            # The address names the place, so that a reload shows the same reply.
            return RedirectResponse(f"{base}/next?{asked.query(at=item.at)}", 303)
        now = None
        if item is not None:
            key = item.candidate.key
            chosen = next((one for one in item.places.values() if one.turn == item.turn), None)
            if chosen is not None:
                key = (chosen.request_hash, key[1], chosen.reply_hash)
            now = item.given.get(key)
        page = self._render(
            request,
            "label.html",
            400 if problem and request.headers.get("hx-request") is None else 200,
            asked=asked,
            item=item,
            now=now,
            done=done,
            total=total,
            annotator=annotator,
            problem_=problem,
            people=people,
            base=base,
            refusals=REFUSALS,
            criteria=self._criteria(asked.run or None),
            held=self._desk.held,
        )
        if item is not None and request.headers.get("hx-request") is not None:
            page.headers["HX-Push-Url"] = f"{base}/next?{asked.query(at=item.at, turn=item.turn)}"
        return page

    def _save(self, request: Request) -> Response:
        form = request.state.form
        asked, annotator = _Asked.read(form), annotator_of(request)
        if not annotator or asked.at is None:
            return RedirectResponse("/label", 303)
        drawn = self._sample(asked)
        key, stratum, later = _meant(drawn, asked, form)
        try:
            self._labelling.keep(key, stratum, annotator, _given(form))
        except InputError as error:
            return self._page(request, asked, annotator, str(error))
        if later is not None:
            following: tuple[int | None, int | None] = (asked.at, later)
        else:
            given = self._labelling.given(annotator)
            following = (self._labelling.after(drawn, given, asked.at), None)
        return self._go(request, asked, annotator, *following)

    def _go(
        self, request: Request, asked: _Asked, annotator: str, at: int | None, turn: int | None = None
    ) -> Response:
        """On to another reply."""
        if request.headers.get("hx-request") is None:
            return RedirectResponse(f"/label/next?{asked.query(at=at, turn=turn)}", 303)
        return self._page(request, replace(asked, at=at, turn=turn), annotator)

    def _undo(self, request: Request) -> Response:
        form = request.state.form
        asked, annotator = _Asked.read(form), annotator_of(request)
        drawn = self._sample(asked)
        places = {one.key: (n, None) for n, one in enumerate(drawn.candidates)} | {
            (turn.request_hash, one.dialogue_key, turn.reply_hash): (n, turn.turn)
            for n, one in enumerate(drawn.candidates)
            for turn in drawn.turns.get(one.key, ())
        }
        undone = self._labelling.undo(list(places), annotator)
        at, turn = (asked.at, None) if undone is None else places[undone]
        return self._go(request, asked, annotator, at, turn)

    def _splits(self, request: Request) -> Response:
        run = self._run_of(request.query_params.get("run", ""))
        with self._desk.people() as people:
            agreement = people_agreement(people, run)
            counts = people.dicts(
                """SELECT h.annotator, count(*) AS labels FROM current_human_labels h
                   SEMI JOIN (SELECT request_hash, dialogue_key, reply_hash FROM replies WHERE run_id = ?)
                        USING (request_hash, dialogue_key, reply_hash)
                   WHERE NOT h.adjudicated GROUP BY ALL ORDER BY ALL""",
                [run],
            )
        return self._render(
            request,
            "adjudicate.html",
            run=run,
            runs=self._queries.runs(),
            splits=self._labelling.splits(run),
            agreement=agreement,
            counts=counts,
            annotator=annotator_of(request),
            held=self._desk.held,
        )

    def _split(self, request: Request) -> Response:
        asked, annotator = _Asked.read(request.query_params), annotator_of(request)
        if not annotator:
            return RedirectResponse(f"/label?{asked.query(at=None)}", 303)
        return self._decision(request, asked, annotator)

    def _decision(
        self, request: Request, asked: _Asked, annotator: str, problem: str | None = None
    ) -> Response:
        """A split reply with what people said of it: the one that is asked for, else the first open one."""
        self._desk.check_texts()
        run = self._run_of(asked.run)
        found = self._labelling.splits(run)
        asked = _Asked(run, "", asked.size, asked.at, None)
        done = sum(one.adjudicated is not None for one in found)
        at = (
            asked.at
            if asked.at is not None
            else next((n for n, s in enumerate(found) if not s.adjudicated), None)
        )
        if at is None or not 0 <= at < len(found):
            return self._shown(request, asked, None, annotator, done, len(found), problem, [])
        candidate = self._labelling.whole(found[at].candidate)
        given = self._labelling.given(annotator, adjudicated=True)
        item = Item(candidate, json.loads(candidate.messages), {}, given, at)
        people = self._labelling.said(candidate.key)
        return self._shown(request, asked, item, annotator, done, len(found), problem, people)

    def _decide(self, request: Request) -> Response:
        form = request.state.form
        asked, annotator = _Asked.read(form), annotator_of(request)
        if not annotator:
            return RedirectResponse("/label", 303)
        key = _key_of(form)
        if not any(one.candidate.key == key for one in self._labelling.splits(self._run_of(asked.run))):
            raise InputError("people are not split on this reply any more: open the list again")
        try:
            self._labelling.keep(key, "", annotator, _given(form), adjudicated=True)
        except InputError as error:
            return self._decision(request, asked, annotator, str(error))
        # The list has what is open first: the next one has taken a place before.
        return self._go_decide(request, asked, annotator, None)

    def _go_decide(self, request: Request, asked: _Asked, annotator: str, at: int | None) -> Response:
        if request.headers.get("hx-request") is None:
            return RedirectResponse(f"/adjudicate/next?{asked.query(at=at)}", 303)
        return self._decision(request, _Asked(asked.run, "", asked.size, at, None), annotator)

    def _undo_decision(self, request: Request) -> Response:
        asked, annotator = _Asked.read(request.state.form), annotator_of(request)
        keys = [one.candidate.key for one in self._labelling.splits(self._run_of(asked.run))]
        undone = self._labelling.undo(keys, annotator, adjudicated=True)
        found = [one.candidate.key for one in self._labelling.splits(self._run_of(asked.run))]
        at = found.index(undone) if undone in found else asked.at
        return self._go_decide(request, asked, annotator, at)

    def _run_of(self, run_id: str) -> str:
        runs = [run["run_id"] for run in self._queries.runs()]
        if not runs:
            raise InputError("the store has no runs yet")
        if run_id and run_id not in runs:
            raise InputError(f"no run {run_id!r} in this store")
        return str(run_id or runs[0])


def _given(form: dict[str, str]) -> Given:
    return Given(
        form.get("label", ""), form.get("refusal_kind") or None, form.get("note", "").strip() or None
    )


def _key_of(form: dict[str, str]) -> tuple[str, str, str]:
    return form.get("request", ""), form.get("dialogue", ""), form.get("reply", "")


def _meant(
    drawn: Sample, asked: _Asked, form: dict[str, str]
) -> tuple[tuple[str, str, str], str, int | None]:
    """The reply that a form is about, its stratum, and the turn to be labelled next; None after the last.

    Raises:
        InputError: it is none of the sample.
    """
    candidate = next((one for one in drawn.candidates if one.key == _key_of(form)), None)
    if candidate is None:
        raise InputError("this reply is not in the sample any more: go on from the page Label")
    turns = [turn for _, turn in sorted(drawn.places(candidate).items())]
    chosen = next((turn for turn in turns if turn.turn == asked.turn), None)
    if chosen is None:
        return candidate.key, candidate.stratum, None
    later = [turn.turn for turn in turns if turn.turn > chosen.turn]
    # 0 is no turn: the last reply.
    following = later[0] if later else 0
    return (chosen.request_hash, candidate.dialogue_key, chosen.reply_hash), "", following


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None
