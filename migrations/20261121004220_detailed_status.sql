-- Why a message has the status that it has, as its provider put it: the code of the receipt that gave it, and the
-- provider's words for that code where it documented some. Nothing personal: it outlives retention.
alter table notifications add column detailed_status text;

alter table notification_history add column detailed_status text;
