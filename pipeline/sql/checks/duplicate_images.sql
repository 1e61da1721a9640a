-- id: duplicate_images
-- severity: finding
-- explain: different files of one source that show exactly the same pixels
SELECT source AS key,
    printf('%d images in %d groups of equal pixels', sum(n_files), count(*)) AS detail, count(*) AS n
FROM (SELECT source, count(DISTINCT image_id) AS n_files FROM images GROUP BY source, pixel_sha256)
WHERE n_files > 1
GROUP BY source
