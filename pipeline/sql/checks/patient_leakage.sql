-- id: patient_leakage
-- severity: finding
-- explain: patients of one split that also occur in another
WITH known AS (SELECT DISTINCT source, split, patient_key FROM asked_pictures WHERE patient_key IS NOT NULL)
SELECT concat_ws(' ', late.source, late.split) AS key,
    printf('%d %s patients also occur in %s', count(*), late.split, other.split) AS detail, count(*) AS n
FROM known AS late
JOIN split_order USING (split)
JOIN known AS other ON other.source = late.source AND other.split = other_split AND other.patient_key = late.patient_key
GROUP BY late.source, late.split, other.split
ORDER BY ALL
