-- Templates as they are now. Every version, the newest too, is whole in templates_history: notifications name theirs.
create table templates (
    id uuid primary key,
    name varchar(255) not null,
    template_type template_type not null,
    created_at timestamp not null,
    updated_at timestamp,
    content text not null,
    service_id uuid not null references services (id),
    subject text, -- not for texts
    created_by_id uuid not null references users (id),
    version integer not null,
    archived boolean not null,
    service_letter_contact_id uuid, -- its foreign key comes with the table service_letter_contacts
    hidden boolean not null,
    postage varchar,
    letter_attachment_id uuid, -- its foreign key comes with the table letter_attachment
    letter_welsh_content text,
    letter_welsh_subject text,
    letter_languages letter_language_options,
    has_unsubscribe_link boolean not null default false,
    constraint ck_templates_letter_languages check ((template_type = 'letter') = (letter_languages is not null)),
    constraint ck_templates_letter_attachments check (template_type = 'letter' or letter_attachment_id is null),
    constraint ck_templates_non_email_has_unsubscribe_false check (template_type = 'email' or not has_unsubscribe_link)
);
create index ix_templates_service_id on templates (service_id);

create table templates_history (
    like templates including constraints,
    primary key (id, version)
);
create index ix_templates_history_service_id on templates_history (service_id);
