-- Pounds for one fragment of a text, from the given instant on.
create table rates (
    id uuid primary key,
    valid_from timestamp not null, -- London midnight, in UTC
    rate numeric not null,
    notification_type notification_type not null
);
create index ix_rates_notification_type on rates (notification_type);
