-- Each phase of the run: means over its first and its last tenth of steps, and the time it took.
SELECT
    phase, count(*) AS n_steps, sum(seconds) AS seconds,
    avg(loss) FILTER (place < 0.1) AS first_loss, avg(loss) FILTER (place >= 0.9) AS last_loss,
    avg("policy/reward") FILTER (place < 0.1) AS first_reward, avg("policy/reward") FILTER (place >= 0.9) AS last_reward,
    avg("policy/accuracy") FILTER (place < 0.1) AS first_accuracy,
    avg("policy/accuracy") FILTER (place >= 0.9) AS last_accuracy,
    avg("policy/looks") FILTER (place < 0.1) AS first_looks, avg("policy/looks") FILTER (place >= 0.9) AS last_looks
FROM (
    SELECT *, percent_rank() OVER (PARTITION BY phase ORDER BY step) AS place
    FROM read_json('run/steps.jsonl', columns = {
        step: 'INTEGER', phase: 'VARCHAR', seconds: 'DOUBLE', loss: 'DOUBLE',
        'policy/reward': 'DOUBLE', 'policy/accuracy': 'DOUBLE', 'policy/looks': 'DOUBLE'
    })
)
GROUP BY phase
ORDER BY min(step)
