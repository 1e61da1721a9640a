-- id: patient_leakage
-- severity: finding
-- explain: patients of one split that also occur in another
WITH patients AS (SELECT DISTINCT source, split, patient_key FROM questions WHERE patient_key IS NOT NULL)
SELECT concat_ws(' ', late.source, late.split) AS key,
    printf('%d %s patients also occur in %s', count(*), late.split, other.split) AS detail, count(*) AS n
FROM patients AS late JOIN patients AS other USING (source, patient_key)
WHERE (late.split, other.split) IN (('test', 'train'), ('validation', 'train'), ('test', 'validation'))
GROUP BY late.source, late.split, other.split
ORDER BY ALL
