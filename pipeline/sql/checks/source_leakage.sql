-- id: source_leakage
-- severity: finding
-- explain: images of one source's test or validation split whose picture, patient, article or volume is in another source's training split
WITH keyed AS (
    SELECT DISTINCT * FROM (  -- outside: duckdb 2.0 takes a DISTINCT beside an unnest before it unnests
        SELECT source, split, pixels, unnest([
            {'kind': 'pixels', 'key': pixels}, {'kind': 'origin', 'key': origin},
            {'kind': 'patient', 'key': patient_key}, {'kind': 'group', 'key': group_key}
        ], recursive := true)
        FROM asked_pictures
    )
),
asked AS (SELECT source, split, count(DISTINCT pixels) AS n_images FROM asked_pictures GROUP BY ALL),
counted AS (
    SELECT
        late.source, late.split, other.source AS other_source,
        count(DISTINCT late.pixels) AS n,
        count(DISTINCT late.pixels) FILTER (kind IN ('pixels', 'origin')) AS n_pictures,
        count(DISTINCT late.pixels) FILTER (kind = 'patient') AS n_by_patient,
        count(DISTINCT late.pixels) FILTER (kind = 'group') AS n_by_group
    FROM keyed AS late JOIN keyed AS other USING (kind, key)
    WHERE late.split <> 'train' AND other.split = 'train' AND other.source <> late.source
    GROUP BY ALL
)
SELECT concat_ws(' ', source, split) AS key,
    printf('of %d images %d also occur in train of %s, %d share a patient, %d an article or volume',
        n_images, n_pictures, other_source, n_by_patient, n_by_group) AS detail,
    n
FROM counted JOIN asked USING (source, split)
ORDER BY key, other_source
