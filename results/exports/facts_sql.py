"""What facts are made from: statements on the views of a store; `$run` stands for the run's id."""

from __future__ import annotations

__all__ = ["OF_RUN", "OF_TARGETS", "PREPARED", "SMALL"]

PREPARED = (
    "CREATE TEMP TABLE facts_planned AS SELECT DISTINCT ON (dialogue_key) * FROM store.run_dialogues "
    "WHERE run_id = $run",
    "CREATE TEMP TABLE facts_stop_order AS SELECT * FROM store.stop_order WHERE run_id = $run",
    "CREATE TEMP TABLE facts_replies AS SELECT * EXCLUDE (text, reasoning, error, finish_reason) "
    "FROM store.replies WHERE run_id = $run",
    "CREATE TEMP TABLE facts_conversations AS SELECT * EXCLUDE (text, explanation) "
    "FROM store.every_conversation WHERE run_id = $run",
    """CREATE TEMP TABLE facts_verdicts AS
       SELECT DISTINCT r.target_key, v.* EXCLUDE (explanation, raw, run_id, session_id, parameters)
       FROM facts_replies r
       JOIN (SELECT DISTINCT judge_key FROM store.run_judges WHERE run_id = $run) j ON true
       JOIN store.final_verdicts v ON v.judge_key = j.judge_key AND v.request_hash = r.judged_hash
            AND v.dialogue_key = r.dialogue_key AND v.reply_hash = r.reply_hash""",
    # Of moderated targets: their turns, and what the model itself was asked.
    """CREATE TEMP TABLE facts_moderated AS
       SELECT DISTINCT r.target_key, b.request_hash, b.model_request_hash
       FROM (SELECT DISTINCT target_key, request_hash FROM facts_replies WHERE moderator IS NOT NULL) r
       JOIN store.current_turns b USING (request_hash)""",
    """CREATE TEMP TABLE facts_requests AS
       SELECT m.target_key, b.* EXCLUDE (target_key, text, reasoning, request, raw, error)
       FROM store.current_turns b
       JOIN (SELECT min(target_key) AS target_key, request_hash FROM (
                 SELECT target_key, request_hash FROM facts_moderated
                 UNION ALL SELECT target_key, model_request_hash FROM facts_moderated)
             WHERE request_hash IS NOT NULL GROUP BY request_hash) m USING (request_hash)""",
    """CREATE TEMP TABLE facts_moderations AS
       SELECT * FROM store.moderations SEMI JOIN facts_moderated USING (request_hash)""",
    """CREATE TEMP TABLE facts_assessments AS
       SELECT * FROM store.current_assessments
       SEMI JOIN facts_moderations USING (assessment_hash)""",
    # Of people a number, in the order of their first labels: who they are is known to the store.
    """CREATE TEMP TABLE facts_labels AS
       WITH said AS (
           SELECT h.request_hash, h.dialogue_key, h.reply_hash, h.annotator, h.label, h.refusal_kind,
                  h.recorded_at, h.adjudicated
           FROM store.current_human_labels h
           SEMI JOIN facts_replies USING (request_hash, dialogue_key, reply_hash)
       ), people AS (
           SELECT annotator, row_number() OVER (ORDER BY min(recorded_at), annotator) AS number
           FROM said GROUP BY annotator
       )
       SELECT said.* REPLACE ('annotator ' || people.number AS annotator)
       FROM said JOIN people USING (annotator)""",
    "CREATE TEMP TABLE facts_drawn AS SELECT * EXCLUDE (target, explanation) "
    "FROM store.drawn_labels WHERE run_id = $run",
    "CREATE TEMP TABLE facts_anchored AS SELECT * EXCLUDE (explanation) "
    "FROM store.anchored_replies WHERE run_id = $run",
    """CREATE TEMP TABLE facts_labelled (
           judge_key VARCHAR, place BIGINT, target_key VARCHAR, length BIGINT, item_id VARCHAR, human VARCHAR,
           judge VARCHAR, weight DOUBLE, by_chance BOOLEAN)""",
    # A number for each request, in the order in which they stand, so that files of them are small.
    """CREATE TEMP TABLE numbered AS
       SELECT hash, row_number() OVER (ORDER BY min(place), hash)::INTEGER AS number FROM (
           SELECT request_hash AS hash, place FROM (
               SELECT *, row_number() OVER (ORDER BY target_key, dialogue_key, sample, turn) AS place
               FROM facts_replies)
           UNION ALL SELECT judged_hash, 9000000000000000000 FROM facts_replies
           UNION ALL SELECT request_hash, 9000000000000000000 FROM facts_drawn
           UNION ALL SELECT judged_hash, 9000000000000000000 FROM facts_drawn
           UNION ALL SELECT judged_hash, 9000000000000000000 FROM facts_anchored
           UNION ALL SELECT request_hash, 9000000000000000000 FROM facts_requests
           UNION ALL SELECT model_request_hash, 9000000000000000000 FROM facts_requests)
       WHERE hash IS NOT NULL GROUP BY hash""",
    """CREATE TEMP TABLE numbered_replies AS
       SELECT hash, row_number() OVER (ORDER BY min(place), min(turn))::INTEGER AS number FROM (
           SELECT reply_hash AS hash, dialogue_key AS place, turn FROM facts_replies
           UNION ALL SELECT reply_hash, request_hash, 0 FROM facts_requests
           UNION ALL SELECT reply_hash, assessment_hash, 0 FROM facts_assessments
           UNION ALL SELECT reply_hash, request_hash, 0 FROM facts_drawn
           UNION ALL SELECT reply_hash, judged_hash, 0 FROM facts_anchored)
       WHERE hash IS NOT NULL GROUP BY hash""",
    """CREATE TEMP TABLE numbered_assessments AS
       SELECT assessment_hash AS hash, row_number() OVER (ORDER BY min(recorded_at))::INTEGER AS number
       FROM facts_assessments GROUP BY assessment_hash""",
)
"""Made once, before anything is written."""


def _numbered(table: str, *columns: str, order: str) -> str:
    """The rows of a table with the numbers of what its columns are hashes of."""
    names = {
        "request_no": ("request_hash", "numbered"),
        "judged_no": ("judged_hash", "numbered"),
        "model_no": ("model_request_hash", "numbered"),
        "reply_no": ("reply_hash", "numbered_replies"),
        "assessment_no": ("assessment_hash", "numbered_assessments"),
    }
    picked = "".join(f", {c}_n.number AS {c}" for c in columns)
    joined = "".join(f" LEFT JOIN {names[c][1]} {c}_n ON {c}_n.hash = t.{names[c][0]}" for c in columns)
    return f"SELECT t.*{picked} FROM {table} t{joined} ORDER BY {order}"


_CATEGORY = "CASE WHEN category IN (SELECT category FROM known_categories) THEN category END AS category"
_NAME = "'[A-Za-z0-9_.:/@+-]{1,120}'"


def _names(column: str) -> str:
    """A list of models' names. What may be no name is told apart from others, and not shown."""
    hidden = "'left out, ' || left(sha256(name), 8)"
    return f"[if(regexp_full_match(name, {_NAME}), name, {hidden}) FOR name IN {column}] AS {column}"


_MODEL = f"CASE WHEN regexp_full_match(resolved_model, {_NAME}) THEN resolved_model END AS resolved_model"

OF_TARGETS = {
    "conversations": "SELECT * REPLACE ("
    # Of all other states it is a text.
    f"CASE WHEN state = 'unscored' THEN reason END AS reason, {_CATEGORY}) FROM ("
    + _numbered(
        "facts_conversations",
        *("request_no", "judged_no", "reply_no"),
        order="judge_key, length, dialogue_key, sample",
    )
    + ")",
    "turns": f"SELECT * REPLACE ({_MODEL}) FROM ("
    + _numbered(
        "facts_replies", "request_no", "judged_no", "reply_no", order="length, dialogue_key, sample, turn"
    )
    + ")",
    "verdicts": f"SELECT * REPLACE ({_CATEGORY}, {_MODEL}) FROM ("
    + _numbered("facts_verdicts", "request_no", "reply_no", order="judge_key, dialogue_key, request_no")
    + ")",
}
"""The rows of the tables of which each target has a file."""

OF_RUN = {
    "requests": f"SELECT * REPLACE ({_MODEL}) FROM ("
    + _numbered("facts_requests", "request_no", "model_no", "reply_no", order="request_no")
    + ")",
    "moderations": _numbered(
        "facts_moderations", "request_no", "assessment_no", order="request_no, stage, turn"
    ),
    "assessments": _numbered("facts_assessments", "assessment_no", "reply_no", order="assessment_no"),
    "dialogues": """SELECT * REPLACE (CASE WHEN extra LIKE '%"pair"%' OR extra LIKE '%"turn_labels"%'
                        THEN json_object('pair', json_extract(extra, '$.pair'),
                                         'turn_labels', json_extract(extra, '$.turn_labels'))::VARCHAR
                        ELSE '{}' END AS extra)
                    FROM (SELECT DISTINCT ON (dialogue_key) * FROM store.dialogues)
                    SEMI JOIN facts_planned USING (dialogue_key) ORDER BY length, dialogue_key""",
    "planned": "SELECT dialogue_key, "
    "CASE WHEN not_attempted IS NOT NULL THEN 'not attempted' END AS not_attempted "
    "FROM facts_planned ORDER BY dialogue_key",
    "stop_order": "SELECT item_id, place FROM facts_stop_order ORDER BY place",
    "labels": _numbered(
        "facts_labels", "request_no", "reply_no", order="request_no, dialogue_key, annotator"
    ),
    "labelled": "SELECT * FROM facts_labelled ORDER BY judge_key, place",
    "drawn": _numbered("facts_drawn", "request_no", "judged_no", "reply_no", order="draw_id, place"),
    "anchored": _numbered("facts_anchored", "judged_no", "reply_no", order="anchor_id, place"),
}
"""Those of which a run has one."""

SMALL = {
    "runs": "SELECT * REPLACE ('' AS dataset_path) FROM store.runs WHERE run_id = $run",
    # Whether two targets have the same is seen, and not what it is.
    "run_targets": "SELECT * REPLACE ('left out, ' || left(sha256(system_prompt), 8) AS system_prompt) "
    "FROM store.run_targets WHERE run_id = $run",
    "run_judges": "SELECT * REPLACE (regexp_extract(rubric, '[^/\\\\]*$') AS rubric) "
    "FROM store.run_judges WHERE run_id = $run",
    "run_moderators": "SELECT * FROM store.run_moderators WHERE run_id = $run",
    "run_events": "SELECT * REPLACE ('{}' AS detail) FROM store.run_events WHERE run_id = $run",
    "server_use": "SELECT * FROM store.server_use WHERE run_id = $run",
    "stop_rules": "SELECT * FROM store.stop_rules WHERE run_id = $run",
    "stop_decisions": "SELECT * FROM store.stop_decisions WHERE run_id = $run",
    "stop_events": "SELECT * FROM store.stop_events WHERE run_id = $run",
    "baselines": "SELECT * FROM store.baselines WHERE run_id = $run",
    "spend": "SELECT * FROM store.spend WHERE run_id = $run",
    "label_draws": "SELECT * FROM store.label_draws WHERE run_id = $run",
    "anchor_runs": "SELECT * FROM store.anchor_runs WHERE run_id = $run",
    "judge_anchors": "SELECT * REPLACE ("
    f"{_names('models_before')}, {_names('models_again')}) "
    "FROM store.judge_anchors WHERE run_id = $run",
    "sent_parameters": "SELECT * FROM store.sent_parameters WHERE run_id = $run",
}
"""The rows of the manifest."""
