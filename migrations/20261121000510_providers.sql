-- The firms that send. Notify first seeded 10 and 20; we begin at the resting points that its balance later returns
-- to, 51 and 49: the two weights always add up to 100.
insert into provider_details (
    id, display_name, identifier, priority, notification_type, active, version, created_by_id, supports_international)
values
    ('0b0c8a2c-6e1f-4a40-8f1b-2f9b6d1c5a01', 'MMG', 'mmg', 51, 'sms', true, 1, '6af522d0-2915-4e52-83a3-3690455a5fe6', true),
    ('0b0c8a2c-6e1f-4a40-8f1b-2f9b6d1c5a02', 'Firetext', 'firetext', 49, 'sms', true, 1, '6af522d0-2915-4e52-83a3-3690455a5fe6', false),
    ('0b0c8a2c-6e1f-4a40-8f1b-2f9b6d1c5a03', 'AWS SES', 'ses', 10, 'email', true, 1, '6af522d0-2915-4e52-83a3-3690455a5fe6', false);
insert into provider_details_history select * from provider_details;
