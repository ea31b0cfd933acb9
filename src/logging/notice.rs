//! What is to be logged, from the time before there is a log.

/// A log record from the time before there was a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: NoticeLevel,
    pub message: &'static str,
    pub fields: Vec<(&'static str, String)>,
}

/// How important it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeLevel {
    Info,
    Warn,
}

impl Notice {
    pub fn info<const N: usize>(message: &'static str, fields: [(&'static str, &String); N]) -> Self {
        Self {
            level: NoticeLevel::Info,
            message,
            fields: fields.map(|(name, value)| (name, value.clone())).into(),
        }
    }

    pub fn warn<const N: usize>(message: &'static str, fields: [(&'static str, &String); N]) -> Self {
        Self {
            level: NoticeLevel::Warn,
            ..Self::info(message, fields)
        }
    }
}

/// Logs what configuration had to say before there was a log.
pub fn replay(notices: &[Notice]) {
    for notice in notices {
        let fields: serde_json::Map<String, serde_json::Value> = notice
            .fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        let fields = serde_json::Value::Object(fields);
        match notice.level {
            NoticeLevel::Info => tracing::info!(flatten = %fields, "{}", notice.message),
            NoticeLevel::Warn => tracing::warn!(flatten = %fields, "{}", notice.message),
        }
    }
}
