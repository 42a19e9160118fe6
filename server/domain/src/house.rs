//! What the server does itself: jobs of the step library, and questions to people once they are answered.
//!
//! Such jobs are jobs like any other; the worker that does them is inside of the server and is called the house.

/// Topics that begin with this are the server's own: no other worker may serve them.
pub const TOPICS: &str = "sys.";
/// Topics of the step library: after it comes the name of the step.
pub const STEPS: &str = "sys.step.";
/// Questions to people: handed to the house once they are answered.
pub const APPROVALS: &str = "sys.approval";
/// The name of the house among workers, its pool, and whom it says it is.
pub const WORKER: &str = "house";

/// True if only the server may serve the topic.
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with(TOPICS)
}

/// True if the house does jobs of this topic, as far as the name tells.
pub fn does(topic: &str) -> bool {
    is_reserved(topic) && (topic.starts_with(STEPS) || topic == APPROVALS)
}

/// The name of the step a topic stands for.
pub fn step_of(topic: &str) -> Option<&str> {
    topic.strip_prefix(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_does_steps_and_answered_questions_and_nothing_else() {
        assert!(does("sys.step.http") && does("sys.step.") && does("sys.approval"));
        for other in ["sys.destroy", "sys.approval.x", "sys.steps", "job.sys.step.http", "system", "sys"] {
            assert!(!does(other), "{other}");
        }
        assert!(is_reserved("sys.destroy") && !is_reserved("system.x") && !is_reserved("sys"));
        assert_eq!(step_of("sys.step.http"), Some("http"));
    }
}
