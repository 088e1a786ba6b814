-- Questions to start from on the SQL page. $run is the run that is selected there.

-- How does the win rate move?
SELECT iteration, model_a AS policy, count(*) AS prompts,
    round(avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END), 4) AS win_rate,
    round(avg(score_a), 4) AS mean_score, round(avg(len_a), 1) AS mean_length
FROM evals
WHERE run_id = $run AND suite <> 'validation'
GROUP BY ALL
ORDER BY iteration;

-- Which pairs have the widest gap?
SELECT iteration, round(gap, 3) AS gap, kept, prompt, rejected, chosen, pair_id
FROM pairs
WHERE run_id = $run
ORDER BY gap DESC
LIMIT 50;

-- Why were pairs dropped?
SELECT iteration, coalesce(drop_reason, 'kept') AS fate, count(*) AS pairs, round(avg(gap), 3) AS mean_gap
FROM pairs
WHERE run_id = $run
GROUP BY ALL
ORDER BY iteration, pairs DESC;

-- Which aspect gets better?
SELECT r.iteration, r.role, s.aspect, round(avg(s.value), 3) AS mean, count(*) AS answers
FROM responses AS r
JOIN scores AS s USING (run_id, response_id)
WHERE run_id = $run AND r.role IN ('initial', 'draft', 'improved')
GROUP BY ALL
ORDER BY s.aspect, r.iteration, r.role;

-- Does the longer answer win?
SELECT iteration, len_a > len_b AS longer, winner, count(*) AS prompts
FROM evals
WHERE run_id = $run AND suite <> 'validation' AND iteration > 0
GROUP BY ALL
ORDER BY ALL;

-- How often does the noise keyword end up in the prompt?
SELECT iteration, count(*) AS prompts,
    round(avg(CAST(contains(lower(text), lower(noise_keyword)) AS INTEGER)), 3) AS share_with_noise
FROM prompts
WHERE run_id = $run AND noise_keyword IS NOT NULL AND status = 'kept'
GROUP BY iteration
ORDER BY iteration;

-- What did the improver leave as it was?
SELECT d.iteration, count(*) AS drafts, count(*) FILTER (d.text = i.text) AS unchanged,
    round(avg(len(i.text)) / avg(len(d.text)), 2) AS length_ratio
FROM responses AS d
JOIN responses AS i USING (run_id, iteration, prompt_id)
WHERE run_id = $run AND d.role = 'draft' AND i.role = 'improved'
GROUP BY d.iteration
ORDER BY d.iteration;

-- Which topics grow or shrink from round to round?
SELECT topic, any_value(label) AS label, iteration, count(*) AS prompts,
    round(count(*) / sum(count(*)) OVER (PARTITION BY iteration), 3) AS share, round(avg(novelty), 3) AS novelty
FROM topics
WHERE run_id = $run AND kind = 'written'
GROUP BY topic, iteration
ORDER BY topic, iteration;

-- How long did each stage take?
SELECT iteration, stage, min(e."at") AS began, max(e."at") - min(e."at") AS took, max(done) AS done
FROM events AS e
WHERE run_id = $run AND done IS NOT NULL
GROUP BY ALL
ORDER BY began;

-- Which runs are there?
SELECT run_id, recipe, state, title, created_at FROM runs ORDER BY created_at DESC;
