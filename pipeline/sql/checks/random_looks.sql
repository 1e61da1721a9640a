-- id: random_looks
-- severity: error
-- explain: a random search looks as often as the GRN search of its question, at the same images through boxes of the same sizes
WITH looks AS (
    SELECT
        slice, question_id, origin,
        [
            (step_look_x1[i] - step_look_x0[i], step_look_y1[i] - step_look_y0[i])
            FOR i IN generate_series(1, len(step_mode)) IF step_mode[i] <> 'scan'
        ] AS sides,
        [step_image[i] FOR i IN generate_series(1, len(step_mode)) IF step_mode[i] <> 'scan'] AS images
    FROM trajectories
)
SELECT trajectory_key(slice, question_id, 'random', 0) AS key,
    'its looks differ in number, image or size from those of grn' AS detail
FROM (SELECT * FROM looks WHERE origin = 'random') AS r
JOIN (SELECT * FROM looks WHERE origin = 'grn') AS g USING (slice, question_id)
WHERE r.images <> g.images
    OR len([
        i FOR i IN generate_series(1, len(r.sides))
        IF greatest(abs(r.sides[i][1] - g.sides[i][1]), abs(r.sides[i][2] - g.sides[i][2])) > 1e-2
    ]) > 0
