-- The closed sets of words of Notify's schema, under its names: enumerations where it has enumerations, tables where
-- it has tables. All are data in exports and API answers, hence frozen.
create type notification_type as enum ('email', 'sms', 'letter');
create type template_type as enum ('sms', 'email', 'letter', 'broadcast'); -- broadcast: dead, old rows have it
create type recipient_type as enum ('mobile', 'email');
create type letter_language_options as enum ('english', 'welsh_then_english');

create table key_types (name varchar(255) primary key);
insert into key_types values ('normal'), ('team'), ('test');

create table auth_type (name varchar primary key);
insert into auth_type values ('email_auth'), ('sms_auth'), ('webauthn_auth');

create table notification_status_types (name varchar primary key);
insert into notification_status_types values
    ('created'), ('sending'), ('sent'), ('delivered'), ('pending'), ('failed'), ('technical-failure'),
    ('temporary-failure'), ('permanent-failure'), ('pending-virus-check'), ('validation-failed'),
    ('virus-scan-failed'), ('returned-letter'), ('cancelled');

create table service_permission_types (name varchar(255) primary key);
insert into service_permission_types values
    ('email'), ('sms'), ('international_sms'), ('letter'), ('inbound_sms'), ('email_auth'),
    ('edit_folder_permissions'), ('international_letters'), ('sms_to_uk_landlines');

create table job_status (name varchar(255) primary key);
insert into job_status values
    ('pending'), ('in progress'), ('finished'), ('sending limits exceeded'), ('scheduled'), ('cancelled'),
    ('ready to send'), ('sent to dvla'), ('error'), ('finished all notifications created');

create table organisation_types (
    name varchar(255) primary key,
    is_crown boolean -- null: it depends on the organisation
);
insert into organisation_types values
    ('central', null), ('local', false), ('nhs', null), ('nhs_central', true), ('nhs_local', false),
    ('nhs_gp', null), ('nhs_notify', null), ('emergency_service', null), ('school_or_college', false), ('other', null);
