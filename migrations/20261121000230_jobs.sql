-- Uploaded lists of recipients.
create table jobs (
    id uuid primary key,
    original_file_name varchar not null,
    service_id uuid not null references services (id),
    template_id uuid references templates (id),
    created_at timestamp not null,
    updated_at timestamp,
    notification_count integer not null,
    notifications_sent integer not null,
    processing_started timestamp,
    processing_finished timestamp,
    created_by_id uuid references users (id),
    template_version integer not null,
    notifications_delivered integer not null,
    notifications_failed integer not null,
    job_status varchar(255) not null references job_status (name),
    scheduled_for timestamp,
    archived boolean not null,
    contact_list_id uuid -- its foreign key comes with the table service_contact_list
);
create index ix_jobs_service_id on jobs (service_id);
