//! CronJobs.

use super::job::validate_job_spec;
use super::schedule::{is_time_zone, problem};
use crate::field::{Errors, FieldError};
use crate::kinds::KindRules;
use crate::kinds::pod::template::default_template;
use crate::kinds::pod::warnings::of_template_at;
use crate::{Cursor, Path};

/// Eleven characters are left for what jobs append.
const MAX_NAME: usize = 52;

pub(in crate::kinds) const RULES: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.jobTemplate.spec.template"),
    defaults: |cron| default_template(cron, &["spec", "jobTemplate", "spec", "template"]),
    validate: |cron, _, out| {
        validate_spec(&cron.field("spec"), out);
        let name = cron.value.str_at("metadata.name").unwrap_or("");
        if name.len() > MAX_NAME {
            let detail = format!("must be no more than {MAX_NAME} characters");
            out.push(FieldError::invalid(&Path::new("metadata.name"), name, detail));
        }
    },
    validate_update: |cron, _, write, out| {
        if write.subresource.is_empty() {
            validate_spec(&cron.field("spec"), out);
        }
    },
    ..KindRules::NONE
};

fn validate_spec(spec: &Cursor<'_>, out: &mut Errors) {
    let schedule = spec.field("schedule");
    let zone = spec.field("timeZone");
    match schedule.text() {
        "" => schedule.required(out, ""),
        text => {
            if text.contains("TZ") {
                schedule.invalid(
                    out,
                    match zone.is_set() {
                        true => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
                        false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                    },
                );
            } else if let Some(problem) = problem(text) {
                schedule.invalid(out, problem);
            }
        }
    }
    if zone.is_set() {
        match zone.text() {
            "" => zone.invalid(out, "timeZone must be nil or non-empty string"),
            text if text.eq_ignore_ascii_case("local") => zone.invalid(
                out,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
            text if !is_time_zone(text) => zone.invalid(out, format!("unknown time zone {text}")),
            _ => {}
        }
    }
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.field(name).not_negative(out);
    }
    spec.field("concurrencyPolicy").one_of(out, &["Allow", "Forbid", "Replace"]);
    let template = spec.field("jobTemplate");
    let job = template.field("spec");
    validate_job_spec(&job, out);
    if job.has("selector") {
        job.field("selector").invalid(out, "`selector` will be auto-generated");
    }
    if job.bool_of("manualSelector") {
        job.field("manualSelector").not_supported(out, &["nil", "false"]);
    }
}
