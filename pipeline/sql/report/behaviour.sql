-- How the three policies behave on test questions: share of episodes in correct form, looks, and findings looked at.
SELECT checkpoint, grammatical, looks_per_question, found AS found_share
FROM read_json('evaluation-*.json', columns = {
    checkpoint: 'VARCHAR', grammatical: 'DOUBLE', looks_per_question: 'DOUBLE', found: 'DOUBLE'
})
ORDER BY checkpoint
