-- The service and the user in whose name the system itself writes and acts, under Notify's ids. Nobody logs in as
-- this user: its password is no hash.
insert into users (
    id, name, email_address, created_at, _password, password_changed_at, failed_login_count, state, platform_admin,
    auth_type, email_access_validated_at, take_part_in_research, receives_new_features_email)
select '6af522d0-2915-4e52-83a3-3690455a5fe6', 'Notify service user',
    'notify-service-user@digital.cabinet-office.gov.uk', at, '*', at, 0, 'active', false, 'email_auth', at, false, false
from (select now() at time zone 'utc') t (at);

insert into services (
    id, name, created_at, active, restricted, created_by_id, version, organisation_type, prefix_sms, crown,
    count_as_live, normalised_service_name, email_sender_local_part)
select 'd6aa2c68-a2d9-4437-ab19-3ae8eb202553', 'GOV.UK Notify', now() at time zone 'utc', true, false,
    '6af522d0-2915-4e52-83a3-3690455a5fe6', 1, 'central', false, true, false, 'gov.uk.notify', 'gov.uk.notify';
insert into services_history select * from services;

insert into service_permissions
select 'd6aa2c68-a2d9-4437-ab19-3ae8eb202553', permission, now() at time zone 'utc'
from unnest(array['email', 'sms', 'international_sms']) permission;

insert into service_sms_senders (id, sms_sender, service_id, is_default, created_at, archived)
values ('c7416ffe-6bb5-4ea4-92ac-2a6d2cfce43c', 'GOVUK', 'd6aa2c68-a2d9-4437-ab19-3ae8eb202553', true,
    now() at time zone 'utc', false);
