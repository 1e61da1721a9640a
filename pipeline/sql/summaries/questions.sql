-- Questions, images and annotated regions of each ingest slice and split.
SELECT
    slice, split, count(*) AS n_questions, count(DISTINCT image_ids) AS n_image_sets,
    sum(len(region_label))::BIGINT AS n_regions, count(*) FILTER (len(region_label) = 0) AS n_without_region
FROM questions
GROUP BY slice, split
ORDER BY slice, split
