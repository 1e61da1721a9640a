-- id: trajectory_question
-- severity: error
-- needs: questions
-- explain: every trajectory belongs to a question of the same source and split, and has all of its images in its order
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('no question of %s %s has this id and images %s', source, split, image_ids) AS detail
FROM trajectories
ANTI JOIN (SELECT DISTINCT question_id, source, split, image_ids FROM questions)
USING (question_id, source, split, image_ids)
