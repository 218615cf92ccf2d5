-- Every message ever, live or archived, in the columns that outlive retention.
create view notifications_all_time_view as
select id, job_id, job_row_number, service_id, template_id, template_version, api_key_id, key_type, notification_type,
    created_at, sent_at, sent_by, updated_at, notification_status, reference, client_reference, billable_units,
    international, phone_prefix, rate_multiplier, created_by_id, postage, document_download_count
from notifications
union all
select id, job_id, job_row_number, service_id, template_id, template_version, api_key_id, key_type, notification_type,
    created_at, sent_at, sent_by, updated_at, notification_status, reference, client_reference, billable_units,
    international, phone_prefix, rate_multiplier, created_by_id, postage, document_download_count
from notification_history;
