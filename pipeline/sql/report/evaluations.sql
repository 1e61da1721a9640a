-- Accuracy of the three policies on test questions, overall and by question type, with 95 % intervals.
WITH evaluations AS (
    FROM read_json('evaluation-*.json', columns = {
        checkpoint: 'VARCHAR',
        overall: 'STRUCT(n BIGINT, accuracy DOUBLE, interval_95 DOUBLE[], majority DOUBLE)',
        by_type: 'MAP(VARCHAR, STRUCT(n BIGINT, accuracy DOUBLE, interval_95 DOUBLE[], majority DOUBLE))'
    })
),
scores AS (
    SELECT checkpoint, 'all' AS question_type, overall AS score FROM evaluations
    UNION ALL
    SELECT checkpoint, one.key, one.value
    FROM (SELECT checkpoint, unnest(map_entries(by_type)) AS one FROM evaluations)
)
SELECT
    checkpoint, question_type, score.n, score.accuracy, score.interval_95[1] AS low, score.interval_95[2] AS high,
    score.majority
FROM scores
ORDER BY question_type, checkpoint
