//! What extra clients do while messages flow: their subscriptions change, or all connections of
//! theirs are cut or stop reading.

use std::rc::Rc;

use super::Worker;
use crate::pace::schedule::{Pacer, Schedule, Timeline};
use crate::plan::Plan;
use crate::plan::step::{Incident, IncidentKind, Step, Visit, VisitPace};

impl Worker {
    pub(super) fn start_extras(self: &Rc<Self>, timeline: Timeline) {
        let schedule = self.context.recording.borrow().churn_schedule();
        if let Some(schedule) = schedule {
            self.take_up(Rc::clone(self).keep_churning(schedule));
        }
        if let Some(incident) = self.orders.plan.incident {
            self.take_up(Rc::clone(self).undergo(incident, timeline));
        }
    }

    /// Wakes extra clients when their subscriptions are to change.
    async fn keep_churning(self: Rc<Self>, schedule: Schedule) {
        let count = self.orders.plan.extras.map_or(0, |extras| extras.count);
        let step = self.orders.plan.executor_count as usize;
        let extras = (self.orders.executor..count).step_by(step).collect();
        let mut pacer = Pacer::new(schedule, extras);
        loop {
            let now_ns = self.orders.clock.now_ns();
            let Some(next_ns) = pacer.tick(now_ns, |at| self.wake_extra(at)) else {
                return;
            };
            self.sleep_until(next_ns).await;
        }
    }

    /// Wakes an extra client, unless it has not come.
    fn wake_extra(&self, at: usize) {
        if let Some(handle) = self.extras.borrow().get(at) {
            handle.wake();
        }
    }

    async fn undergo(self: Rc<Self>, incident: Incident, timeline: Timeline) {
        let at_ns = timeline.steady_ns + incident.at.as_nanos() as i64;
        self.sleep_until(at_ns).await;
        match incident.kind {
            IncidentKind::Storm { at_once } => {
                self.extras.borrow().iter().for_each(|handle| handle.cut());
                self.visit_from(come_back(&self.orders.plan, at_once), Some(at_ns)).await;
            }
            IncidentKind::Stall { time } => {
                self.extras.borrow().iter().for_each(|handle| handle.pause(true));
                self.sleep_until(at_ns + time.as_nanos() as i64).await;
                self.extras.borrow().iter().for_each(|handle| handle.pause(false));
            }
        }
        self.orders.control.recover(self.orders.clock.now_ns());
    }

    /// Tells the books when the incident is over.
    pub(super) fn watch_incident(&self) {
        if let Some(impact) = &mut self.context.recording.borrow_mut().impact {
            impact.end(self.orders.control.incident_end_ns());
        }
    }
}

/// Makes a visit in which all extra clients come as in the first place.
fn come_back(plan: &Plan, at_once: u32) -> Visit {
    let arrival = plan.steps.iter().find_map(|step| match step {
        Step::Visit(visit) if visit.duty.stays() => Some(*visit),
        _ => None,
    });
    let arrival = arrival.expect("clients to which something happens have arrived");
    Visit { name: "reconnect", pace: VisitPace { rate_per_s: None, at_once }, ..arrival }
}
