-- What a fragment has cost so far. Each is valid from London midnight.
insert into rates (id, valid_from, rate, notification_type)
select gen_random_uuid(), (day::timestamp at time zone 'Europe/London') at time zone 'utc', pounds, 'sms'
from (values
    (date '2016-05-18', 0.0165), ('2017-04-01', 0.0158), ('2021-04-01', 0.016), ('2022-04-01', 0.0161),
    ('2022-05-01', 0.0172), ('2023-04-01', 0.0197), ('2024-04-01', 0.0227), ('2025-04-01', 0.0233),
    ('2026-04-01', 0.024)) known (day, pounds);
