-- id: group_leakage
-- severity: finding
-- explain: articles or volumes that pictures of one split were taken from, and of another
WITH known AS (SELECT DISTINCT source, split, group_key FROM asked_pictures WHERE group_key IS NOT NULL)
SELECT concat_ws(' ', late.source, late.split) AS key,
    printf('%d %s articles or volumes also occur in %s', count(*), late.split, other.split) AS detail, count(*) AS n
FROM known AS late
JOIN split_order USING (split)
JOIN known AS other ON other.source = late.source AND other.split = other_split AND other.group_key = late.group_key
GROUP BY late.source, late.split, other.split
ORDER BY ALL
