-- The public tables. Each stands on a view of the same name in the schema `parts`, which reads the files of the lab home
-- (see sources.py). Above each: the question it answers, then one line per column.

-- runs
-- Which runs are there, what is each doing, and what made it?
-- run_id: name of the run's folder
-- title: what its maker called it
-- recipe: the method: synpo, seed-sft, ..., or import for a data set
-- state: queued, running, stopping, stopped, interrupted, failed, finished or imported
-- message: what the run last said about its state
-- created_at: when the run was made, UTC
-- since: since when it is in this state, UTC
-- policy: the initial model M_0
-- scorer: who gives the numbers
-- seed: the number every random choice follows from
-- iterations: how many rounds it was asked for
-- config: the whole run.yaml as JSON
CREATE VIEW runs AS
SELECT
    run_id, title, recipe, state, message,
    make_timestamp(CAST(created_at * 1e6 AS BIGINT)) AS created_at,
    make_timestamp(CAST(since * 1e6 AS BIGINT)) AS since,
    policy, scorer, seed, iterations, CAST(config AS JSON) AS config
FROM parts.runs;

-- seeds
-- Which (prompt, gold answer) rows was the run given?
-- run_id: the run
-- iteration: always 0, seeds are given once
-- seed_id: hash of the prompt
-- prompt: the seed prompt
-- gold: its gold answer
-- split: train or validation; validation rows choose beta and are never trained on
CREATE VIEW seeds AS
SELECT run_id, iteration, seed_id, prompt, gold, split
FROM parts.seeds;

-- prompts
-- Which prompts did the generator write, and why were some dropped?
-- run_id: the run
-- iteration: the round that made it; 0 for evaluation prompts
-- prompt_id: hash of the text
-- text: the prompt
-- keywords: the list it was written from, in order
-- noise_keyword: the member of the list that came from elsewhere
-- source: generator, seed, persona, ..., or eval:<suite>
-- status: kept, dropped or held-out
-- drop_reason: malformed, invalid, duplicate, evaluation, seed or unanswered; empty when not dropped
CREATE VIEW prompts AS
SELECT run_id, iteration, prompt_id, text, keywords, noise_keyword, source, status, drop_reason
FROM parts.prompts;

-- responses
-- What did which model answer, and how was it sampled?
-- run_id: the run
-- iteration: the round that needed it
-- response_id: hash of the request
-- prompt_id: the prompt or seed it answers
-- role: gold, initial, draft, improved, candidate or eval
-- model: M_0, M_2, R_1, gold, ...
-- text: the answer
-- n_tokens: generated tokens, the end token included
-- finish_reason: stop, length (cut), given, or error (no answer: the reason stands in sampling)
-- sampling: JSON: temperature, top_p, max_new_tokens, seed, index
CREATE VIEW responses AS
SELECT
    run_id, iteration, response_id, prompt_id, role, model, text, n_tokens, finish_reason,
    TRY_CAST(sampling AS JSON) AS sampling
FROM parts.responses;

-- scores
-- Which numbers did the scorers give an answer?
-- run_id: the run
-- iteration: the round that needed it
-- response_id: the answer
-- scorer: who gave the number
-- aspect: what it is about; total is the one filters and rankings use
-- value: the number, higher is better
CREATE VIEW scores AS
SELECT run_id, iteration, response_id, scorer, aspect, value
FROM parts.scores;

-- pairs
-- Which answer is preferred over which, was the pair kept, and if not, why?
-- run_id: the run
-- iteration: the round that made it
-- pair_id: hash of the two answers
-- prompt_id: the prompt both answer
-- prompt: its text
-- chosen_id: response_id of the preferred answer
-- rejected_id: response_id of the other
-- chosen: text of the preferred answer
-- rejected: text of the other
-- chosen_score: total score of the preferred answer
-- rejected_score: total score of the other
-- gap: chosen_score - rejected_score
-- len_chosen: characters of the preferred answer
-- len_rejected: characters of the other
-- repetition: share of the preferred answer that repeats itself, 0 to 1
-- kept: whether the trainer of this iteration reads it
-- drop_reason: the first rule that refused it; empty when kept
-- similarity: share of words the two answers have in common, 0 to 1
-- duplicate: whether an earlier pair of the run has the same prompt and the same two answers
-- messages: JSON: the prompt's messages where it is more than one user turn
CREATE VIEW pairs AS
SELECT
    run_id, iteration, pair_id, prompt_id, prompt, chosen_id, rejected_id, chosen, rejected, chosen_score,
    rejected_score, gap, len_chosen, len_rejected, repetition, kept, drop_reason, similarity,
    coalesce(duplicate, false) AS duplicate, messages
FROM parts.pairs;

-- train_steps
-- How did each training go, step by step?
-- run_id: the run
-- iteration: the round
-- trainee: generator, improver or policy
-- variant: which training of a grid, for example beta=4; empty without a grid
-- step: optimiser step
-- loss: training loss
-- lr: learning rate
-- grad_norm: norm of the gradient before clipping
-- reward_margin: beta x (mean logp chosen - mean logp rejected), batch mean
-- reward_accuracy: share of pairs whose chosen answer has the higher reward
-- logp_chosen: nats per token of the chosen answers
-- logp_rejected: nats per token of the rejected answers
-- tokens_per_s: speed
CREATE VIEW train_steps AS
SELECT
    run_id, iteration, trainee, variant, step, loss, lr, grad_norm, reward_margin, reward_accuracy, logp_chosen,
    logp_rejected, tokens_per_s
FROM parts.train_steps;

-- evals
-- Prompt by prompt, did the policy beat its opponent?
-- run_id: the run
-- iteration: the round whose policy is tested
-- suite: which set of prompts
-- prompt_id: the prompt
-- model_a: the policy under test
-- model_b: its opponent, M_0 unless said
-- response_a: response_id of the policy's answer
-- response_b: response_id of the opponent's answer
-- score_a: total score of the policy's answer
-- score_b: total score of the opponent's answer
-- winner: a, b or tie
-- len_a: characters of the policy's answer
-- len_b: characters of the opponent's answer
-- annotator: who judged, in imported annotations; empty for the run's scorer
CREATE VIEW evals AS
SELECT
    run_id, iteration, suite, prompt_id, model_a, model_b, response_a, response_b, score_a, score_b, winner, len_a,
    len_b, coalesce(annotator, '') AS annotator
FROM parts.evals;

-- pair_logps
-- How likely does a policy find both sides of a pair?
-- run_id: the run
-- iteration: the round whose policy is asked
-- pair_id: the pair; of this round or an earlier one, trained on if it was kept
-- model: M_0, or the policy M_t of that round
-- logp_chosen: nats per token of the chosen answer
-- logp_rejected: nats per token of the rejected answer
-- beta: of that training; reward = beta x nats per token
-- gamma: its target margin, in reward units
CREATE VIEW pair_logps AS
SELECT run_id, iteration, pair_id, model, logp_chosen, logp_rejected, beta, gamma
FROM parts.pair_logps;

-- topics
-- What is each prompt about, how new is it, and where does it lie on the map?
-- run_id: the run
-- iteration: the prompt's
-- prompt_id: the prompt
-- topic: number of its cluster
-- label: the words that tell the cluster from the others
-- x: place on the map
-- y: place on the map
-- novelty: 1 - similarity to the nearest seed, 0 to 1
-- overlap: similarity to the nearest evaluation prompt, 0 to 1
-- similarity: mean similarity to the other prompts of its round
-- nearest_seed: seed_id of the nearest seed
-- nearest_evaluation: prompt_id of the nearest evaluation prompt
-- kind: written (by the generator, or imported), seed or evaluation
CREATE VIEW topics AS
SELECT
    run_id, iteration, prompt_id, topic, label, x, y, novelty, overlap, similarity, nearest_seed, nearest_evaluation,
    coalesce(kind, 'written') AS kind
FROM parts.topics;

-- findings
-- Which pairs does the health report point at?
-- run_id: the run
-- iteration: the pair's
-- kind: what was found
-- pair_id: the pair
-- value: the check's number for this pair
-- detail: in words
CREATE VIEW findings AS
SELECT run_id, iteration, kind, pair_id, value, detail
FROM parts.findings;

-- events
-- What happened when?
-- run_id: the run
-- at: when, UTC. AT is a word of SQL: write "at" or give the table, as in e.at
-- stage: what was at work
-- iteration: the round, if any
-- done: how many are done
-- total: of how many, if known
-- message: what it says
-- level: info, warning or error
CREATE VIEW events AS
SELECT
    run_id, make_timestamp(CAST(events.at * 1e6 AS BIGINT)) AS at, stage, iteration, done, total, message, level
FROM parts.events AS events
-- A line torn by a crash reads as one without a time.
WHERE events.at IS NOT NULL AND stage IS NOT NULL;

-- notes
-- What is each reader's latest verdict on a pair?
-- pair_id: the pair
-- verdict: chosen, rejected, tie, bad, or empty
-- text: in their words
-- author: who
-- at: when, UTC. AT is a word of SQL: write "at" or give the table, as in e.at
CREATE VIEW notes AS
SELECT pair_id, verdict, text, author, make_timestamp(CAST(line.at * 1e6 AS BIGINT)) AS at
FROM (SELECT *, row_number() OVER () AS number FROM parts.notes) AS line
WHERE pair_id IS NOT NULL AND line.at IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY pair_id, author ORDER BY line.at DESC, number DESC) = 1;

-- votes
-- Which of two answers of the playground did readers prefer?
-- run_id: the run whose models answered
-- pair_id: hash of the two answers; the verdict is in notes too
-- prompt: what both were asked
-- history: JSON: the turns before it
-- model_a: who wrote the first answer
-- model_b: who wrote the second
-- response_a: hash of the first answer's request
-- response_b: hash of the second answer's request
-- answer_a: the first answer
-- answer_b: the second
-- sampling: JSON: temperature, top_p, max_new_tokens
-- seed: of both
-- winner: a, b, tie or bad (both are)
-- blind: whether the reader did not know who wrote which
-- author: who
-- at: when, UTC. AT is a word of SQL: write "at" or give the table, as in v.at
CREATE VIEW votes AS
SELECT
    run_id, pair_id, prompt, TRY_CAST(history AS JSON) AS history, model_a, model_b, response_a, response_b, answer_a,
    answer_b, TRY_CAST(sampling AS JSON) AS sampling, seed, winner, blind, author,
    make_timestamp(CAST(votes.at * 1e6 AS BIGINT)) AS at
FROM parts.votes AS votes
WHERE pair_id IS NOT NULL AND votes.at IS NOT NULL;
