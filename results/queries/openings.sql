-- How often was the test fold of each trial opened, by which protocol and code? Under sealed it is once.
SELECT m.study, m.arm, m.fold, m.seed, a.protocol, count(a.opened_at) AS openings, min(a.opened_at) AS first,
    count(DISTINCT a.source_hash) AS codes
FROM members m LEFT JOIN audits a USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, m.arm, m.fold, m.seed, m.index, a.protocol
ORDER BY m.study, m.index
