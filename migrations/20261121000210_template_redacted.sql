-- Templates whose personalisation people may not see after the send.
create table template_redacted (
    template_id uuid primary key references templates (id),
    redact_personalisation boolean not null,
    updated_at timestamp not null,
    updated_by_id uuid not null references users (id)
);
