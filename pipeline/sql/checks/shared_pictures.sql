-- id: shared_pictures
-- severity: finding
-- explain: images, patients, articles or volumes that two sources of the store have in common
WITH keyed AS (
    SELECT DISTINCT * FROM (  -- outside: duckdb 2.0 takes a DISTINCT beside an unnest before it unnests
        SELECT source, unnest([
            {'kind': 'pixels', 'key': pixels}, {'kind': 'origin', 'key': origin},
            {'kind': 'patient', 'key': patient_key}, {'kind': 'group', 'key': group_key}
        ], recursive := true)
        FROM pictures
    )
)
SELECT concat_ws(' ', one.source, other.source) AS key,
    printf('%d images by pixels, %d by origin, %d patients, %d articles or volumes',
        count(*) FILTER (kind = 'pixels'), count(*) FILTER (kind = 'origin'),
        count(*) FILTER (kind = 'patient'), count(*) FILTER (kind = 'group')) AS detail,
    count(*) AS n
FROM keyed AS one JOIN keyed AS other USING (kind, key)
WHERE one.source < other.source
GROUP BY one.source, other.source
ORDER BY key
