// Flat TAP: a line a test, what went wrong below it as comments.
export class Tap {
  count = 0;
  failed = 0;

  constructor() {
    process.stdout.write('TAP version 13\n');
  }

  line(isOk, name, detail) {
    this.count++;
    if (!isOk) this.failed++;
    const notes = detail ? `${detail.trimEnd().replace(/^/gm, '# ')}\n` : '';
    process.stdout.write(`${isOk ? 'ok' : 'not ok'} ${this.count} - ${name}\n${notes}`);
  }

  skip(name, reason) {
    this.count++;
    process.stdout.write(`ok ${this.count} - ${name} # SKIP ${reason}\n`);
  }

  /** Runs a check; true when it did not throw. */
  async check(name, body) {
    try {
      await body();
      this.line(true, name);
      return true;
    } catch (error) {
      this.line(false, name, `${error.stack ?? error}\n${error.logs ?? ''}`);
      return false;
    }
  }

  end() {
    // A session that was given up may still wait for something: do not wait for it.
    process.stdout.write(`1..${this.count}\n`, () => process.exit(this.failed > 0 ? 1 : 0));
  }
}
