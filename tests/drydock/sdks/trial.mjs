// The official js SDK, unmodified, against a Sprites-compatible server.
//   node trial.mjs URL TOKEN   prints one line of JSON a step: {"step", "ok", "why"?}
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { WebSocket } from 'undici';
import { SpritesClient } from '@fly/sprites';

globalThis.WebSocket = WebSocket; // node 24 has one that takes headers, node 20 has none
const [url, token] = process.argv.slice(2);
const client = new SpritesClient(token, { baseURL: url });
const name = `js-${randomBytes(4).toString('hex')}`;
let sprite;
let failed = 0;

async function step(title, work) {
  const limit = new Promise((_, reject) => setTimeout(() => reject(new Error('took more than 60 s')), 60_000).unref());
  try {
    await Promise.race([work(), limit]);
    console.log(JSON.stringify({ step: title, ok: true }));
  } catch (error) {
    failed += 1;
    console.log(JSON.stringify({ step: title, ok: false, why: String(error?.stack ?? error).slice(0, 1500) }));
  }
}

const text = (value) => (Buffer.isBuffer(value) ? value.toString() : value);
const sum = (data) => createHash('sha256').update(data).digest('hex');
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const end = (command) => command.stdin.end(); // the SDK never does by itself

async function all(stream) {
  const found = [];
  for await (const event of stream) found.push(event);
  return found;
}

await step('create, get, update', async () => {
  sprite = await client.createSprite(name, { labels: ['a'] });
  assert.equal(sprite.name, name);
  assert.equal((await client.getSprite(name)).status, 'running');
  assert.deepEqual((await sprite.update({ labels: ['b', 'c'] })).labels, ['b', 'c']);
  await assert.rejects(client.createSprite(name), (error) => error.statusCode === 409 || /exist/.test(error.message));
  await assert.rejects(client.getSprite('nobody-here'), /404|not found/i);
});

await step('120 sprites in pages', async () => {
  const names = Array.from({ length: 120 }, (_, n) => `${name}-p${String(n).padStart(3, '0')}`);
  await Promise.all(names.map((one) => client.createSprite(one)));
  const found = await client.listAllSprites(`${name}-p`);
  assert.deepEqual(found.map((one) => one.name).sort(), names);
  const page = await client.listSprites({ prefix: `${name}-p`, maxResults: 50 });
  assert.equal(page.sprites.length, 50);
  assert.ok(page.hasMore && page.nextContinuationToken && page.running >= 120);
  await Promise.all(names.map((one) => client.deleteSprite(one)));
  assert.equal((await client.listAllSprites(`${name}-p`)).length, 0);
});

await step('streams apart, exit codes', async () => {
  const good = await sprite.execFile('sh', ['-c', 'echo out; echo err >&2']);
  assert.deepEqual([text(good.stdout), text(good.stderr), good.exitCode], ['out\n', 'err\n', 0]);
  await assert.rejects(sprite.execFile('sh', ['-c', 'echo x; exit 7']), (error) => error.exitCode === 7);
  await assert.rejects(sprite.execFile('sh', ['-c', 'kill -TERM $$']), (error) => error.exitCode === 143);
});

await step('5 MiB of output', async () => {
  const big = await sprite.execFile('sh', ['-c', 'head -c 5242880 /dev/urandom | tee /tmp/big | cat'], {
    encoding: 'buffer',
    maxBuffer: 8 * 1024 * 1024,
  });
  const there = await sprite.execFile('sha256sum', ['/tmp/big']);
  assert.equal(sum(Buffer.from(big.stdout, 'latin1').length === 5242880 && !Buffer.isBuffer(big.stdout) ? Buffer.from(big.stdout, 'latin1') : big.stdout), text(there.stdout).split(' ')[0]);
});

await step('200 fast commands', async () => {
  for (let start = 0; start < 200; start += 10) {
    const done = await Promise.all(
      Array.from({ length: 10 }, (_, n) => sprite.execFile('echo', [String(start + n)])),
    );
    done.forEach((one, n) => assert.equal(text(one.stdout), `${start + n}\n`));
  }
});

await step('stdin, environment, directory', async () => {
  const command = sprite.spawn('sh', ['-c', 'cat; pwd; echo $WORD'], { cwd: '/tmp', env: { WORD: 'a b' } });
  const said = [];
  command.stdout.on('data', (data) => said.push(data));
  command.on('spawn', () => {});
  await pause(200);
  command.stdin.write('fed\n');
  end(command);
  assert.equal(await command.wait(), 0);
  assert.equal(Buffer.concat(said).toString(), 'fed\n/tmp\na b\n');
});

await step('over POST', async () => {
  const done = await sprite.execFileHTTP('sh', ['-c', 'cat; echo err >&2; exit 0'], { input: 'fed' });
  assert.deepEqual([text(done.stdout), text(done.stderr), done.exitCode], ['fed', 'err\n', 0]);
  await assert.rejects(sprite.execFileHTTP('sh', ['-c', 'exit 9']), (error) => error.exitCode === 9);
});

await step('a terminal that changes its size', async () => {
  const command = sprite.spawn('sh', ['-c', 'stty size; read x; stty size'], { tty: true, rows: 33, cols: 101 });
  let said = '';
  command.stdout.on('data', (data) => (said += data));
  while (!said.includes('33 101')) await pause(20);
  command.resize(90, 20);
  await pause(300);
  command.stdin.write('\n');
  await command.wait();
  assert.match(said, /20 90/);
});

await step('attach, list, kill', async () => {
  const first = sprite.createSession('sh', ['-c', 'echo begun; read x; echo got $x; sleep 300']);
  let seen = '';
  first.stdout.on('data', (data) => (seen += data));
  first.on('error', () => {});
  while (!seen.includes('begun')) await pause(20);
  const [session] = await sprite.listSessions();
  assert.ok(session.isActive && session.tty);
  const second = sprite.attachSession(session.id);
  let replayed = '';
  second.stdout.on('data', (data) => (replayed += data));
  second.on('error', () => {});
  while (!replayed.includes('begun')) await pause(20);
  second.stdin.write('word\n');
  while (!replayed.includes('got word') || !seen.includes('got word')) await pause(20);
  const events = await all(await sprite.killSession(session.id, 'SIGTERM', '5s'));
  assert.deepEqual([events[0].type, events.at(-1).type], ['signal', 'complete']);
  await pause(100);
  assert.equal((await sprite.listSessions()).length, 0);
});

await step('files', async () => {
  const fs = sprite.filesystem('/home/sprite');
  const data = randomBytes(12 * 1024 * 1024);
  await fs.writeFile('deep/er/blob', data, { mode: 0o640 });
  assert.equal(sum(await fs.readFile('deep/er/blob')), sum(data));
  assert.equal((await fs.stat('deep/er/blob')).size, data.length);
  assert.deepEqual(await fs.readdir('deep/er'), ['blob']);
  await fs.mkdir('made');
  await fs.copyFile('deep/er/blob', 'made/copy');
  await fs.rename('made/copy', 'made/moved');
  await fs.chmod('made/moved', 0o600);
  await fs.appendFile('made/log', 'a');
  await fs.appendFile('made/log', 'b');
  assert.equal(await fs.readFile('made/log', 'utf8'), 'ab');
  await fs.rm('made', { recursive: true });
  assert.equal(await fs.exists('made/log'), false);
  await assert.rejects(fs.readFile('nowhere'), (error) => error.code === 'ENOENT');
});

await step('changes of files', async () => {
  const watcher = await sprite.filesystem('/home/sprite').watch(['.'], { recursive: true });
  assert.equal((await watcher.next()).type, 'subscribed');
  await sprite.filesystem('/home/sprite').writeFile('seen', 'x');
  let event;
  do event = await watcher.next();
  while (event.event !== 'write');
  assert.equal(event.path, '/home/sprite/seen');
  watcher.close();
});

await step('services', async () => {
  const events = await all(
    await sprite.createService('web', { cmd: 'python3', args: ['-m', 'http.server', '18951'], httpPort: 18951 }, '1s'),
  );
  assert.equal(events[0].type, 'started');
  assert.equal(events.at(-1).type, 'complete');
  const [listed] = await sprite.listServices();
  assert.deepEqual([listed.name, listed.httpPort, listed.state.status], ['web', 18951, 'running']);
  await sprite.signalService('web', 'KILL');
  let state;
  do {
    await pause(50);
    state = (await sprite.getService('web')).state;
  } while (state.status !== 'running' || !state.restartCount);
  assert.ok((await all(await sprite.getServiceLogs('web', { lines: 10 }))).length >= 1);
  await all(await sprite.restartService('web', '0.5s'));
});

await step('a port, forwarded', async () => {
  const free = await new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
  let session;
  let body = '';
  for (let tries = 0; tries < 50 && !body.includes('Directory'); tries += 1) {
    session ??= await sprite.proxyPort(free, 18951);
    body = await new Promise((resolve) => {
      http
        .get({ host: '127.0.0.1', port: free, path: '/', agent: false }, (reply) => {
          let got = '';
          reply.on('data', (data) => (got += data));
          reply.on('end', () => resolve(got));
        })
        .on('error', () => setTimeout(() => resolve(''), 100));
    });
  }
  session.close();
  assert.match(body, /Directory listing/);
  await all(await sprite.stopService('web'));
  await sprite.deleteService('web');
  assert.deepEqual(await sprite.listServices(), []);
});

await step('ports that open', async () => {
  const watcher = await sprite.watchPorts();
  assert.equal((await watcher.next()).type, 'port_list');
  const command = sprite.spawn('timeout', ['2', 'python3', '-m', 'http.server', '18952']);
  command.on('error', () => {});
  let event;
  do event = await watcher.next();
  while (event.type !== 'port_opened' || event.port !== 18952);
  watcher.close();
  command.kill();
});

await step('checkpoint and restore', async () => {
  const fs = sprite.filesystem('/home/sprite');
  await fs.writeFile('state', 'before');
  const told = await all(await sprite.createCheckpoint('mine'));
  assert.match(told.at(-1).data, /Checkpoint v\d+ created/);
  const [checkpoint] = await sprite.listCheckpoints();
  assert.equal(checkpoint.comment, 'mine');
  assert.equal((await sprite.getCheckpoint(checkpoint.id)).id, checkpoint.id);
  await fs.writeFile('state', 'after');
  await all(await sprite.restoreCheckpoint(checkpoint.id));
  assert.equal(await fs.readFile('state', 'utf8'), 'before');
});

await step('policies', async () => {
  assert.deepEqual((await sprite.getNetworkPolicy()).rules, []);
  await sprite.updateNetworkPolicy({ rules: [{ domain: '*.example.com', action: 'allow' }, { include: 'defaults' }] });
  assert.equal((await sprite.getNetworkPolicy()).rules[0].domain, '*.example.com');
  await sprite.updateNetworkPolicy({ rules: [] });
  await sprite.updatePrivilegesPolicy({ profile: 'minimal' });
  assert.equal((await sprite.getPrivilegesPolicy()).profile, 'minimal');
  await sprite.deletePrivilegesPolicy();
});

await step('restart, check, upgrade, watch', async () => {
  assert.equal((await sprite.check()).status, 'healthy');
  assert.equal((await sprite.restart()).spriteName, name);
  await sprite.upgrade();
  const stream = await client.watchSprites({ prefix: name });
  const event = await stream.next();
  assert.deepEqual([event.name, event.status], [name, 'running']);
  assert.ok(event.organization.running >= 1);
  stream.close();
});

await step('errors before the upgrade', async () => {
  await assert.rejects(client.sprite('nobody-here').execFile('true', []));
  const stranger = new SpritesClient('wrong', { baseURL: url });
  await assert.rejects(stranger.sprite(name).execFile('true', []));
  await assert.rejects(stranger.listSprites(), (error) => error.statusCode === 401 || /401|token/.test(error.message));
  const lost = sprite.attachSession('999999');
  await new Promise((resolve) => lost.on('error', resolve));
});

await step('destroy', async () => {
  await sprite.destroy();
  await assert.rejects(client.getSprite(name), /404|not found/i);
});

process.exit(failed ? 1 : 0);
