-- A provider repeats a text when our answer is lost. What tells the repetition from a new text: MMG's reference, or of
-- Firetext's, which have none, a digest of everything in it. Rows that Notify wrote have none.
alter table inbound_sms add column received_key text;

create unique index uq_inbound_sms_received_key on inbound_sms (received_key) where received_key is not null;
