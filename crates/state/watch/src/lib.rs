//! Who waits for which keys, who lags, and what to send next
