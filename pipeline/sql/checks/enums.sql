-- id: enums
-- severity: error
-- explain: every column with a fixed vocabulary holds only its words
WITH vocabulary(field, words) AS (
    VALUES
        ('split', ['train', 'validation', 'test']),
        ('answer_kind', ['closed', 'choice', 'open']),
        ('origin', ['grn', 'cvs', 'scan_only', 'drill_only', 'random']),
        ('origin_fallback', ['whole_image', NULL]),
        ('crossing', ['exclude', 'include']),
        ('stop_reason', ['confident', 'length', 'exhausted']),
        ('answer_source', ['gold', 'expert', NULL]),
        ('mode of a step', ['scan', 'drill', 'look']),
        ('mode of a call', ['scan', 'drill'])
),
found AS (
    SELECT slice || ' ' || question_id AS key, unnest(['split', 'answer_kind']) AS field,
        unnest([split, answer_kind]) AS word
    FROM questions
    UNION ALL
    SELECT slice || ' ' || call_id, 'mode of a call', mode FROM expert_calls
    UNION ALL
    SELECT trajectory_key(slice, question_id, origin, variant),
        unnest(['split', 'origin', 'origin_fallback', 'crossing', 'stop_reason', 'answer_source']),
        unnest([split, origin, origin_fallback, crossing, stop_reason, answer_source])
    FROM trajectories
    UNION ALL
    SELECT step_key(slice, question_id, origin, variant, step), 'mode of a step', mode FROM steps_text
)
SELECT key, field || ' is ' || coalesce(word, 'null') AS detail
FROM found JOIN vocabulary USING (field)
WHERE NOT list_contains(list_transform(words, lambda w: coalesce(w, 'null')), coalesce(word, 'null'))
