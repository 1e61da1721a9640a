-- Rows of every table, slice and split.
SELECT 'images' AS table_name, slice, 'pool' AS split, count(*) AS n_rows FROM images GROUP BY slice
UNION ALL
SELECT 'questions', slice, split, count(*) FROM questions GROUP BY slice, split
UNION ALL
SELECT 'expert_calls', slice, 'pool', count(*) FROM expert_calls GROUP BY slice
UNION ALL
SELECT 'trajectories', slice, split, count(*) FROM trajectories GROUP BY slice, split
UNION ALL
SELECT 'rejects', slice, 'pool', count(*) FROM rejects GROUP BY slice
ORDER BY slice, table_name, split
