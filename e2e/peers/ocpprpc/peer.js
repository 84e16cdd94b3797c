// An end-to-end peer on the ocpp-rpc library: a station or a back end for OCPP
// 1.6, 2.0.1 and 2.1, in a process of its own. Same protocol as ocppgo: the
// first line of standard input is the configuration, each further line a
// command; events go to standard output, one JSON object a line.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');
const { RPCClient, RPCServer } = require('ocpp-rpc');

const tell = (event) => process.stdout.write(JSON.stringify(event) + '\n');
// The library's 2.1 schemas hold only what 2.1 added: there it can't be strict.
const strict = (version) => version !== '2.1';
const now = () => new Date().toISOString();

function tap(client, identity) {
  client.on('message', ({ message, outbound }) => {
    tell({ event: outbound ? 'out' : 'in', identity, frame: message.toString() });
  });
  client.on('strictValidationFailure', ({ error }) => {
    tell({ event: 'error', identity, detail: 'schema: ' + error.message });
  });
  client.on('badMessage', ({ error }) => {
    tell({ event: 'error', identity, detail: 'bad message: ' + error.message });
  });
  client.on('close', ({ code, reason }) => {
    tell({ event: 'closed', identity, detail: `${code} ${reason}` });
  });
}

function check(got, wanted, what) {
  if (got !== wanted) {
    throw new Error(`${what}: status is ${got}, want ${wanted}`);
  }
}

// The stations' charging sessions.
async function session16(client, serial) {
  const boot = await client.call('BootNotification', {
    chargePointVendor: 'Vendor–rpc', chargePointModel: 'Model', chargePointSerialNumber: serial,
  });
  check(boot.status, 'Accepted', 'BootNotification');
  await client.call('StatusNotification', { connectorId: 1, errorCode: 'NoError', status: 'Available' });
  await client.call('Heartbeat', {});
  const auth = await client.call('Authorize', { idTag: 'TAG-0001' });
  check(auth.idTagInfo.status, 'Accepted', 'Authorize');
  const start = await client.call('StartTransaction', { connectorId: 1, idTag: 'TAG-0001', meterStart: 0, timestamp: now() });
  for (let i = 0; i < 3; i++) {
    await client.call('MeterValues', {
      connectorId: 1, transactionId: start.transactionId,
      meterValue: [{ timestamp: now(), sampledValue: [{ value: String(i * 250), measurand: 'Energy.Active.Import.Register', unit: 'Wh' }] }],
    });
  }
  await client.call('StopTransaction', { meterStop: 750, timestamp: now(), transactionId: start.transactionId });
}

async function session2(client, serial) {
  const boot = await client.call('BootNotification', {
    reason: 'PowerUp', chargingStation: { vendorName: 'Vendor–rpc', model: 'Model', serialNumber: serial },
  });
  check(boot.status, 'Accepted', 'BootNotification');
  await client.call('StatusNotification', { timestamp: now(), connectorStatus: 'Available', evseId: 1, connectorId: 1 });
  await client.call('Heartbeat', {});
  const idToken = { idToken: 'TAG-0001', type: 'ISO14443' };
  const auth = await client.call('Authorize', { idToken });
  check(auth.idTokenInfo.status, 'Accepted', 'Authorize');
  const steps = [['Started', 'Authorized'], ['Updated', 'MeterValuePeriodic'], ['Updated', 'MeterValuePeriodic'], ['Ended', 'StopAuthorized']];
  for (const [seqNo, [eventType, triggerReason]] of steps.entries()) {
    await client.call('TransactionEvent', {
      eventType, triggerReason, seqNo, timestamp: now(), idToken,
      transactionInfo: { transactionId: 'tx-' + serial },
      meterValue: [{ timestamp: now(), sampledValue: [{ value: seqNo * 250.5 }] }],
    });
  }
  await client.call('MeterValues', { evseId: 1, meterValue: [{ timestamp: now(), sampledValue: [{ value: 1002 }] }] });
}

async function openStation(cfg) {
  const wsOpts = {};
  if (cfg.ca) {
    wsOpts.ca = fs.readFileSync(cfg.ca);
    wsOpts.servername = cfg.server_name;
    if (cfg.cert) {
      wsOpts.cert = fs.readFileSync(cfg.cert);
      wsOpts.key = fs.readFileSync(cfg.key);
    }
  }
  const protocol = 'ocpp' + cfg.version;
  const client = new RPCClient({
    endpoint: cfg.endpoint, identity: cfg.identity, password: cfg.password || null,
    protocols: [protocol], strictMode: strict(cfg.version), reconnect: false, callTimeoutMs: 20000, wsOpts,
  });
  tap(client, cfg.identity);
  let beat;
  const triggered = new Promise((resolve, reject) => { beat = { resolve, reject }; });
  client.handle('ChangeConfiguration', () => ({ status: 'Accepted' }));
  client.handle('GetConfiguration', ({ params }) => ({
    configurationKey: params.key.map((key) => ({ key, readonly: false, value: '300' })),
  }));
  client.handle('GetVariables', ({ params }) => ({
    getVariableResult: params.getVariableData.map((v) => ({ ...v, attributeStatus: 'Accepted', attributeValue: '300' })),
  }));
  client.handle('SetVariables', ({ params }) => ({
    setVariableResult: params.setVariableData.map(({ component, variable }) => ({ component, variable, attributeStatus: 'Accepted' })),
  }));
  client.handle('TriggerMessage', () => {
    setImmediate(() => client.call('Heartbeat', {}).then(beat.resolve, beat.reject));
    return { status: 'Accepted' };
  });
  client.handle('Reset', () => ({ status: 'Accepted' }));
  await client.connect();
  if (client.protocol !== protocol) {
    throw new Error(`subprotocol is ${client.protocol}, want ${protocol}`);
  }
  tell({ event: 'open', identity: cfg.identity });
  return {
    session: () => (cfg.version === '1.6' ? session16 : session2)(client, cfg.serial),
    heartbeat: () => client.call('Heartbeat', {}),
    triggered: () => triggered,
    stop: () => client.close(),
  };
}

// The back ends' answers; 1.6 and 2.x differ only in the shapes of three.
function handlers(version) {
  const v16 = version === '1.6';
  let transaction = 0;
  return {
    BootNotification: () => ({ status: 'Accepted', currentTime: now(), interval: 300 }),
    StatusNotification: () => ({}),
    Heartbeat: () => ({ currentTime: now() }),
    Authorize: () => (v16 ? { idTagInfo: { status: 'Accepted' } } : { idTokenInfo: { status: 'Accepted' } }),
    StartTransaction: () => ({ transactionId: ++transaction, idTagInfo: { status: 'Accepted' } }),
    StopTransaction: () => ({}),
    TransactionEvent: () => ({ idTokenInfo: { status: 'Accepted' } }),
    MeterValues: () => ({}),
  };
}

async function commands16(client) {
  const got = await client.call('GetConfiguration', { key: ['HeartbeatInterval'] });
  check(got.configurationKey[0].value, '300', 'GetConfiguration');
  check((await client.call('ChangeConfiguration', { key: 'HeartbeatInterval', value: '600' })).status, 'Accepted', 'ChangeConfiguration');
  check((await client.call('TriggerMessage', { requestedMessage: 'Heartbeat' })).status, 'Accepted', 'TriggerMessage');
  check((await client.call('Reset', { type: 'Soft' })).status, 'Accepted', 'Reset');
}

async function commands2(client) {
  const component = { name: 'OCPPCommCtrlr' };
  const variable = { name: 'HeartbeatInterval' };
  const got = await client.call('GetVariables', { getVariableData: [{ component, variable }] });
  check(got.getVariableResult[0].attributeValue, '300', 'GetVariables');
  const set = await client.call('SetVariables', { setVariableData: [{ component, variable, attributeValue: '600' }] });
  check(set.setVariableResult[0].attributeStatus, 'Accepted', 'SetVariables');
  check((await client.call('TriggerMessage', { requestedMessage: 'Heartbeat' })).status, 'Accepted', 'TriggerMessage');
  check((await client.call('Reset', { type: 'OnIdle' })).status, 'Accepted', 'Reset');
}

async function openBackend(cfg) {
  const clients = new Map();
  const server = new RPCServer({ protocols: ['ocpp' + cfg.version], strictMode: strict(cfg.version), callTimeoutMs: 20000 });
  server.on('client', (client) => {
    clients.set(client.identity, client);
    tap(client, client.identity);
    for (const [action, handler] of Object.entries(handlers(cfg.version))) {
      client.handle(action, handler);
    }
    tell({ event: 'open', identity: client.identity });
  });
  const http = await server.listen(0, '127.0.0.1');
  tell({ event: 'listening', address: `127.0.0.1:${http.address().port}` });
  return {
    commands: ({ identity }) => (cfg.version === '1.6' ? commands16 : commands2)(clients.get(identity)),
    stop: () => process.exit(0),
  };
}

async function main() {
  let peer;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
      if (!peer) {
        peer = await (order.role === 'station' ? openStation : openBackend)(order);
        continue;
      }
      if (!Object.hasOwn(peer, order.do)) {
        throw new Error(`unknown command ${order.do}`);
      }
      await peer[order.do](order);
      tell({ event: 'done', identity: order.identity, detail: order.do });
    } catch (err) {
      tell({ event: 'error', identity: order.identity, detail: String(err.message || err) });
      if (!peer) {
        process.exit(1);
      }
    }
  }
  if (peer) {
    await peer.stop();
  }
}

main();
