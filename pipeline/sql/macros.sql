-- Macros. Boxes are four numbers, x1 and y1 exclusive, in one frame.

CREATE OR REPLACE MACRO box_area(x0, y0, x1, y1) AS
    greatest(0.0, (x1)::DOUBLE - (x0)::DOUBLE) * greatest(0.0, (y1)::DOUBLE - (y0)::DOUBLE);

CREATE OR REPLACE MACRO box_common(ax0, ay0, ax1, ay1, bx0, by0, bx1, by1) AS
    box_area(greatest(ax0, bx0), greatest(ay0, by0), least(ax1, bx1), least(ay1, by1));

-- Intersection over union in [0, 1]; 0 when both boxes are empty.
CREATE OR REPLACE MACRO box_iou(ax0, ay0, ax1, ay1, bx0, by0, bx1, by1) AS
    coalesce(
        box_common(ax0, ay0, ax1, ay1, bx0, by0, bx1, by1)
        / nullif(
            box_area(ax0, ay0, ax1, ay1) + box_area(bx0, by0, bx1, by1)
            - box_common(ax0, ay0, ax1, ay1, bx0, by0, bx1, by1),
            0.0
        ),
        0.0
    );

-- Whether a box is finite, not empty and within an image of width × height pixels.
CREATE OR REPLACE MACRO box_inside(x0, y0, x1, y1, width, height) AS
    coalesce(
        isfinite((x0)::DOUBLE) AND isfinite((y0)::DOUBLE) AND isfinite((x1)::DOUBLE) AND isfinite((y1)::DOUBLE)
        AND 0 <= x0 AND x0 < x1 AND x1 <= width AND 0 <= y0 AND y0 < y1 AND y1 <= height,
        false
    );

-- Δc of MedEyes: signed relative gain of confidence.
CREATE OR REPLACE MACRO delta_c(conf_before, conf_after) AS
    ((conf_after)::DOUBLE - (conf_before)::DOUBLE) / ((conf_before)::DOUBLE + 1e-6);

-- Whether two numbers agree to a millionth, relative for numbers above 1; null agrees with null alone.
CREATE OR REPLACE MACRO agrees(a, b) AS
    CASE
        WHEN a IS NULL OR b IS NULL THEN a IS NULL AND b IS NULL
        ELSE abs((a)::DOUBLE - (b)::DOUBLE) <= 1e-6 * greatest(1.0, abs((b)::DOUBLE))
    END;

-- How a row of `trajectories` and one of its steps are named in reports.
CREATE OR REPLACE MACRO trajectory_key(slice, question_id, origin, variant) AS
    concat_ws(' ', slice, question_id, origin, 'variant ' || variant);

CREATE OR REPLACE MACRO step_key(slice, question_id, origin, variant, step) AS
    concat_ws(' ', slice, question_id, origin, 'variant ' || variant, 'step ' || step);

-- `name` when the list has a null entry, else null.
CREATE OR REPLACE MACRO named_if_nulls(name, entries) AS
    CASE WHEN list_count(entries) < len(entries) THEN name END;
