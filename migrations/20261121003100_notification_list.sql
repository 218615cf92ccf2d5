-- Lists by keys that are not live ones: the rows of these are few among a service's live traffic, and its index by time
-- alone would be walked through all of that. Rows of live keys, the many, are not in it and pay nothing.
create index ix_notifications_service_key_type_created_at on notifications (service_id, key_type, created_at)
    where key_type <> 'normal';
