/**
 * Every bound of the service, its unit last in its name. Relations between bounds are asserted at the end. Some stand in a
 * script too, under a comment that names them: a test compares.
 */
import assert from 'node:assert/strict'

export const limits = {
  // Requests
  bodyBytesMax: 1024 * 1024,
  batchBodyBytesMax: 20 * 1024 * 1024,
  batchOperationsMax: 256,
  batchUnderWayMax: 512,
  batchTurnMs: 250,
  jsonDepthMax: 32,
  requestIdCharsMax: 128,
  pageDefault: 50,
  pageMax: 500,

  // Deadlines. A call answers within requestDeadlineMs because the store gets storeDeadlineMs of it.
  requestDeadlineMs: 3000,
  handlerDeadlineMs: 2900,
  batchAnswerMs: 2850,
  batchBeginMs: 1400,
  storeDeadlineMs: 2000,
  storeCommandTimeoutMs: 500,
  listenBacklogMax: 4096,
  storeRetryPauseMs: 100,
  claimGrantMs: 1400,
  storeSocketTimeoutMs: 1000,
  storePatienceTickMs: 50,
  storeConnectTimeoutMs: 1000,
  storeRetryWhileAwayMs: 400,
  storeReconnectDelayMaxMs: 500,
  storeReadOnlyReconnectMs: 1000,
  storeRetryAfterSpreadSeconds: 3,
  storeCalmMs: 1000,
  storeResetRetryAfterSeconds: 10,
  clusterRefreshMs: 1000,
  witnessIntervalMs: 1000,
  clockStepMs: 500,
  storeClockTriesMax: 4,
  durableWaitMs: 1200,
  durableBatchMax: 256,
  durableMarkMs: 60_000,
  coalesceItemsMax: 32,
  coalesceBytesMax: 256 * 1024,
  coalesceUnderWayMax: 2,
  coalesceFullUnderWayMax: 64,
  requestReceiveTimeoutMs: 10_000,
  requestCheckMs: 1000,
  lingerMs: 5000,
  lingerTickMs: 20,
  lingerBytesMax: 32 * 1024 * 1024,
  drainTimeoutMs: 15_000,
  drainNoticeMs: 1000,
  drainIdlePollMs: 100,
  drainCallsMs: 4000,

  // Processes behind one port
  processesMax: 256,
  workerStartsMax: 5,
  workerSteadyMs: 10_000,
  workerPauseMs: 100,
  workerPauseMaxMs: 5000,
  metricsGatherMs: 1000,

  // Effects
  effectTypeCharsMax: 64,
  entityBytesMax: 1024,
  ownerCharsMax: 128,
  claimIdCharsMax: 128,
  fingerprintCharsMax: 256,
  leaseSecondsMin: 0.1,
  leaseSecondsMax: 3600,
  retentionSecondsMin: 1,
  retentionSecondsMax: 31_536_000,
  waitSecondsMax: 60,
  waitersMax: 20_000,
  waitAsksMax: 256,
  waitSlotMs: 500,
  waitRestMs: 1000,
  waitLeaseSlackMs: 20,
  wakeBeatMs: 1000,
  metadataPairsMax: 16,
  metadataCharsMax: 256,
  errorMessageCharsMax: 2000,
  errorWordCharsMax: 128,
  retryAfterSecondsMax: 604_800,
  errorBytesMax: 16 * 1024,
  reasonCharsMin: 3,
  reasonCharsMax: 500,
  userCharsMax: 128,
  historyStepsMax: 20,
  claimIdsRemembered: 8,
  attemptsMax: 10_000,
  fencingTokenMax: Number.MAX_SAFE_INTEGER,
  referenceCharsMax: 32,
  namespaceCharsMax: 63,
  jobTypeCharsMax: 64,

  // Sweep and counts
  buckets: 256,
  sweepIntervalMs: 250,
  sweepLeaseMs: 2000,
  sweepBatchMax: 500,
  listScanMax: 5000,
  listPageMax: 50,
  listBucketsAtOnce: 32,
  countSliceMax: 500,
  countsAgeMaxMs: 5000,
  countsWaitMs: 500,
  memoryAgeMaxMs: 5000,
  memoryPollMs: 2000,
  inspectIntervalMs: 10_000,

  // Audit
  auditNonceMs: 120_000,
  auditChainedBytesMax: 256,
  auditSubjectCharsMax: 256,
  auditBatchMax: 100,
  auditBatchBytesMax: 128 * 1024,
  auditScanMax: 5000,
  auditPageBytesMax: 4 * 1024 * 1024,
  auditVerdictMs: 5000,
  auditHeadsIntervalMs: 60_000,
  auditFileQueueBytesMax: 16 * 1024 * 1024,

  // Events
  eventsKept: 10_000,
  eventQueueMax: 5000,
  eventBatchMax: 50,
  eventRetryMs: 250,
  eventSenderMs: 3_600_000,
  eventPageMax: 200,
  eventBlockMs: 1000,
  eventPollMs: 100,
  eventHeartbeatMs: 15_000,
  eventReaderBytesMax: 256 * 1024,
  eventReaderStuckMs: 30_000,
  eventClientRetryMs: 2000,

  // Breakers. A view is refreshed often enough that it is never older than breakerViewAgeMaxMs. Failures that counted are
  // kept breakerEventsMs or for the window, if that is longer; of what counted otherwise, breakerEventsRemembered.
  probeIdCharsMax: 128,
  overrideSecondsMin: 0.1,
  overrideSecondsMax: 31_536_000,
  eventIdCharsMax: 256,
  breakerHistoryMax: 200,
  breakerIdleMs: 30 * 86_400_000,
  breakerEventsMs: 600_000,
  breakerEventsRemembered: 16,
  breakerFailuresKept: 2000,
  breakerViewAgeMaxMs: 1000,
  breakerViewRefreshMs: 400,
  breakerViewUnusedMs: 60_000,
  breakerViewJobTypesMax: 10_000,
  breakerChangesMax: 100,
  breakerListScanMax: 5000,
  breakerWouldBlockEventMs: 1000,

  // Retry metrics. Job types beyond the bound are counted together.
  retryJobTypesMax: 256,
  retryReasonCharsMax: 64,
  retryEventIdsMs: 3_600_000,
  retryNonceMs: 10_000,
  retryQueueMax: 10_000,
  retryBatchMax: 50,
  retryResetTries: 5,

  // The private server. A socket's path is 108 bytes with its final NUL on Linux and 104 on macOS.
  privateServerStartMs: 60_000,
  privateServerStopMs: 10_000,
  privateServerReplyMs: 1000,
  privateServerPollMs: 20,
  socketPathBytesMax: 103,

  // The log
  logWriteCharsMax: 16 * 1024,
  logPipeCharsMax: 4096,
  logQueueBytesMax: 16 * 1024 * 1024,
  logFlushMs: 100,

  // Configuration file
  configFileBytesMax: 1024 * 1024,
  configNameCharsMax: 128,
  keyPrefixCharsMax: 63,
  exchangeCharsMax: 64,
  portMax: 65_535,
  graceSecondsMax: 3600,
  resultBytesMax: 1024 * 1024,
  replicasMax: 16,
  cooldownSecondsMax: 86_400,
  breakerFailuresMax: 1000,
  breakerProbesMax: 1000,
  windowMinutesMax: 1440,
  retryBudgetPerSecondMax: 10_000,
  retryBudgetWindowSecondsMax: 3600,
  memoryBudgetMbMax: 1024 * 1024,
  auditEntriesMax: 10_000_000,
  failureRulesMax: 1000,
  failurePatternCharsMax: 500,
} as const

assert(limits.storeDeadlineMs < limits.handlerDeadlineMs)
assert(limits.handlerDeadlineMs < limits.requestDeadlineMs)
assert(limits.batchAnswerMs < limits.handlerDeadlineMs, 'what is in time is told')
assert(limits.batchTurnMs < limits.batchBeginMs, 'every call has its turn in time')
assert(
  limits.batchBeginMs + limits.claimGrantMs <= limits.batchAnswerMs,
  'whoever sent a claim waits when it is granted',
)
assert(limits.requestDeadlineMs < limits.drainCallsMs, 'a drain lets calls finish')
assert(limits.drainNoticeMs + limits.drainCallsMs < limits.drainTimeoutMs)
assert(limits.storeCommandTimeoutMs < limits.storeDeadlineMs)
assert(limits.storePatienceTickMs * 4 < limits.storeCommandTimeoutMs, 'the socket is looked at several times before')
assert(limits.metricsGatherMs + limits.countsWaitMs < limits.handlerDeadlineMs)
assert(
  limits.claimGrantMs <= limits.storeDeadlineMs - limits.storeCommandTimeoutMs - limits.storeRetryPauseMs,
  'whoever sent a claim still waits when it is granted: no try begins that could not end within storeDeadlineMs',
)
assert(limits.waitSlotMs + limits.storeDeadlineMs < limits.handlerDeadlineMs, 'the last ask of a wait is answered')
assert(limits.sweepIntervalMs * 2 < 1000, 'a silent holder is settled within a second of the end of its lease')
assert(limits.sweepIntervalMs < limits.sweepLeaseMs)
assert(limits.memoryPollMs + limits.storeDeadlineMs < limits.memoryAgeMaxMs)
assert(limits.breakerViewRefreshMs * 2 < limits.breakerViewAgeMaxMs, 'one refresh may come late')
assert(
  limits.breakerFailuresKept >= 2 * limits.breakerFailuresMax,
  'what has opened a breaker is known until as many more open it again',
)
assert(limits.retryNonceMs > 2 * limits.storeDeadlineMs, 'a call that the store sends again is known')
assert(limits.bodyBytesMax < limits.batchBodyBytesMax)
assert(limits.batchBodyBytesMax < limits.lingerBytesMax, 'who sends a little too much is told so')
assert(limits.resultBytesMax <= limits.bodyBytesMax, 'a result travels in a body')
