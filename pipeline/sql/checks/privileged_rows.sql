-- id: privileged_rows
-- severity: finding
-- explain: trajectories outside train by an expert that knew the annotation; they are refused as training data
SELECT slice || ' ' || split AS key, printf('%d trajectories on %s', count(*), split) AS detail, count(*) AS n
FROM trajectories
WHERE privileged AND split <> 'train'
GROUP BY slice, split
ORDER BY key
