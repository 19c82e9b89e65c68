-- What did each study cost on which device: trials, hours, memory, images per second? Shared trials count in each.
SELECT m.study, t.device, count(*) AS trials, sum(t.seconds) / 3600 AS hours,
    max(t.peak_memory_bytes) / 1e9 AS peak_gigabytes, avg(t.images_per_second) AS images_per_second
FROM trials t JOIN members m USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, t.device
ORDER BY m.study, hours DESC
