//! One flag table: parser, environment, YAML, help, validation
