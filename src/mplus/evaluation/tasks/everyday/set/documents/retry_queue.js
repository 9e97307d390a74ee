// Retry queue for outgoing mails. Written for the newsletter service by Anneke Duin.
// A job that fails is tried again later; the delay doubles each time.

const MAX_ATTEMPTS = 6;          // after that the job goes to the dead letter list
const FIRST_DELAY_MS = 1500;     // before the second attempt
const LONGEST_DELAY_MS = 120000; // two minutes
const BATCH_SIZE = 40;           // jobs taken from the store at once

class RetryQueue {
  /**
   * @param store  keeps jobs between restarts; must have take(n), put(job) and remove(id)
   * @param send   async function that delivers one job, throws on failure
   * @param clock  replaced by a fake one in tests
   */
  constructor(store, send, clock = Date) {
    this.store = store;
    this.send = send;
    this.clock = clock;
    this.paused = false;
  }

  // The delay before an attempt. Jitter of up to 20 percent keeps jobs from coming back all at once.
  delayFor(attempt) {
    const plain = Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS);
    return plain + Math.random() * 0.2 * plain;
  }

  async drain() {
    if (this.paused) return 0;
    let sent = 0;
    for (const job of await this.store.take(BATCH_SIZE)) {
      try {
        await this.send(job);
        await this.store.remove(job.id);
        sent += 1;
      } catch (error) {
        if (error.code === "EADDRESS") {
          await this.bury(job, "wrong address"); // trying again would not help
        } else if (job.attempts + 1 >= MAX_ATTEMPTS) {
          await this.bury(job, "too many attempts");
        } else {
          await this.store.put({ ...job, attempts: job.attempts + 1, due: this.clock.now() + this.delayFor(job.attempts + 1) });
        }
      }
    }
    return sent;
  }

  // Moves a job to the dead letter list, where support looks at it once a day.
  async bury(job, reason) {
    await this.store.remove(job.id);
    await this.store.put({ ...job, list: "dead", reason });
  }
}

module.exports = { RetryQueue, MAX_ATTEMPTS };
