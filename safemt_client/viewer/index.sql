-- One row a planned dialogue under a target and a judge, with what can be filtered by. Made from the same views
-- as reports are, over tables without texts.
CREATE OR REPLACE TABLE conversation_index AS
WITH members AS (
    SELECT run_id, target_key, dialogue_key, sample, count(DISTINCT label) FILTER (label IN ('safe', 'unsafe')) > 1 AS split
    FROM found SEMI JOIN (SELECT run_id, judge_key FROM run_judges WHERE role = 'member') USING (run_id, judge_key)
    GROUP BY ALL
), people AS (
    -- Whoever has decided, decides; otherwise people who differ are split.
    SELECT request_hash, dialogue_key, reply_hash,
           CASE WHEN adjudicated IS NOT NULL THEN adjudicated WHEN safe > 0 AND unsafe > 0 THEN 'split'
                ELSE coalesce(label, 'unsure') END AS human
    FROM human_decisions
), spent AS (
    -- Of a moderated turn the model's own request counts, whichever target or run paid for it.
    SELECT s.run_id, s.target_key, s.dialogue_key, s.sample, sum(coalesce(m.cost_usd, b.cost_usd)) AS cost_usd,
           sum(coalesce(m.latency_s, b.latency_s)) AS latency_s, max(b.started_at) AS last_asked
    FROM (SELECT DISTINCT run_id, target_key, dialogue_key, coalesce(sample, 1) AS sample, request_hash FROM steps) s
    JOIN current_turns b USING (request_hash) LEFT JOIN current_turns m ON m.request_hash = b.model_request_hash
    GROUP BY ALL
)
SELECT f.*, f.judge_key IS NULL OR j.judge_key IS NOT NULL AS decides, coalesce(m.split, false) AS split, p.human,
       s.cost_usd, s.latency_s, s.last_asked,
       CASE WHEN f.benign IS TRUE THEN NULL
            WHEN b.label = 'unsafe' AND f.label = 'safe' THEN 'rescued'
            WHEN b.label = 'safe' AND f.label = 'unsafe' THEN 'newly_unsafe' END AS change,
       coalesce(f.declined AND NOT b.declined, false) AS newly_refused
FROM found f
LEFT JOIN deciding_judges j ON j.run_id = f.run_id AND j.judge_key = f.judge_key
LEFT JOIN members m ON m.run_id = f.run_id AND m.target_key = f.target_key AND m.dialogue_key = f.dialogue_key
                   AND m.sample = f.sample
LEFT JOIN people p ON p.request_hash = f.request_hash AND p.dialogue_key = f.dialogue_key
                  AND p.reply_hash = f.reply_hash
LEFT JOIN spent s ON s.run_id = f.run_id AND s.target_key = f.target_key AND s.dialogue_key = f.dialogue_key
                 AND s.sample = f.sample
LEFT JOIN baselines a ON a.run_id = f.run_id AND a.target_key = f.target_key
LEFT JOIN found b ON b.run_id = f.run_id AND b.target_key = a.baseline_key AND b.dialogue_key = f.dialogue_key
                 AND b.sample = f.sample
                 AND b.judge_key IS NOT DISTINCT FROM f.judge_key
ORDER BY f.run_id, f.item_id, f.length, f.target, f.sample;
