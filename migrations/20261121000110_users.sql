-- People, and the one user in whose name the system acts.
create table users (
    id uuid primary key,
    name varchar not null,
    email_address varchar(255) not null unique,
    created_at timestamp not null,
    updated_at timestamp,
    _password varchar not null, -- bcrypt
    mobile_number varchar, -- as typed
    password_changed_at timestamp not null,
    logged_in_at timestamp,
    failed_login_count integer not null,
    state varchar not null, -- pending, active, inactive
    platform_admin boolean not null,
    current_session_id uuid,
    auth_type varchar not null references auth_type (name),
    email_access_validated_at timestamp not null,
    take_part_in_research boolean not null,
    receives_new_features_email boolean not null,
    constraint ck_user_has_mobile_or_other_auth
        check (auth_type in ('email_auth', 'webauthn_auth') or mobile_number is not null)
);
