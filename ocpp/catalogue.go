package ocpp

import (
	"slices"
	"strings"
)

// Action is one message of OCPP.
type Action struct {
	Name     string
	Sender   Direction // who sends it; 0: either side
	Versions []Version
	refusal  string
}

// Refusal is the status by which an answer says no, and all that answer needs.
// "" means that only a CALLERROR says it.
func (a Action) Refusal(v Version) string {
	if v == V16 && a.Name == "UpdateFirmware" { // its 1.6 answer is empty
		return ""
	}
	return a.refusal
}

// FindAction returns the message of this name (OCPP-J 1.6 and its security white
// paper, OCPP 2.0.1 and 2.1 part 2).
func FindAction(name string) (Action, bool) {
	i, ok := slices.BinarySearchFunc(catalogue, name, func(a Action, name string) int { return strings.Compare(a.Name, name) })
	if !ok {
		return Action{}, false
	}
	return catalogue[i], true
}

// Actions lists every message, by name.
func Actions() []Action { return slices.Clone(catalogue) }

// In says whether a version has it, sent in this direction.
func (a Action) In(v Version, d Direction) bool {
	return slices.Contains(a.Versions, v) && (a.Sender == 0 || a.Sender == d)
}

var (
	in16  = []Version{V16}
	in2   = []Version{V201, V21}
	in21  = []Version{V21}
	inAll = []Version{V16, V201, V21}
)

// actionNames are the catalogue's, found by what a frame says.
var actionNames = func() map[string]string {
	names := make(map[string]string, len(catalogue))
	for _, a := range catalogue {
		names[a.Name] = a.Name
	}
	return names
}()

// catalogue is sorted by name.
var catalogue = []Action{
	{"AFRRSignal", FromCSMS, in21, "Rejected"},
	{"AdjustPeriodicEventStream", FromCSMS, in21, "Rejected"},
	{ActionAuthorize, FromStation, inAll, ""},
	{"BatterySwap", FromStation, in21, ""},
	{"BootNotification", FromStation, inAll, ""},
	{"CancelReservation", FromCSMS, inAll, "Rejected"},
	{"CertificateSigned", FromCSMS, inAll, "Rejected"},
	{"ChangeAvailability", FromCSMS, inAll, "Rejected"},
	{"ChangeConfiguration", FromCSMS, in16, "Rejected"},
	{"ChangeTransactionTariff", FromCSMS, in21, "Rejected"},
	{"ClearCache", FromCSMS, inAll, "Rejected"},
	{"ClearChargingProfile", FromCSMS, inAll, ""},
	{"ClearDERControl", FromCSMS, in21, "Rejected"},
	{"ClearDisplayMessage", FromCSMS, in2, ""},
	{"ClearTariffs", FromCSMS, in21, ""},
	{"ClearVariableMonitoring", FromCSMS, in2, ""},
	{"ClearedChargingLimit", FromStation, in2, ""},
	{"ClosePeriodicEventStream", FromStation, in21, ""},
	{"CostUpdated", FromCSMS, in2, ""},
	{"CustomerInformation", FromCSMS, in2, "Rejected"},
	{"DataTransfer", 0, inAll, "Rejected"},
	{"DeleteCertificate", FromCSMS, inAll, "Failed"},
	{"DiagnosticsStatusNotification", FromStation, in16, ""},
	{"ExtendedTriggerMessage", FromCSMS, in16, "Rejected"},
	{"FirmwareStatusNotification", FromStation, inAll, ""},
	{ActionGet15118EVCertificate, FromStation, in2, ""},
	{"GetBaseReport", FromCSMS, in2, "Rejected"},
	{"GetCertificateChainStatus", FromStation, in21, ""},
	{"GetCertificateStatus", FromStation, in2, "Failed"},
	{"GetChargingProfiles", FromCSMS, in2, ""},
	{"GetCompositeSchedule", FromCSMS, inAll, "Rejected"},
	{"GetConfiguration", FromCSMS, in16, ""},
	{"GetDERControl", FromCSMS, in21, "Rejected"},
	{"GetDiagnostics", FromCSMS, in16, ""},
	{"GetDisplayMessages", FromCSMS, in2, ""},
	{"GetInstalledCertificateIds", FromCSMS, inAll, ""},
	{"GetLocalListVersion", FromCSMS, inAll, ""},
	{"GetLog", FromCSMS, inAll, "Rejected"},
	{"GetMonitoringReport", FromCSMS, in2, "Rejected"},
	{"GetPeriodicEventStream", FromCSMS, in21, ""},
	{"GetReport", FromCSMS, in2, "Rejected"},
	{"GetTariffs", FromCSMS, in21, "Rejected"},
	{"GetTransactionStatus", FromCSMS, in2, ""},
	{"GetVariables", FromCSMS, in2, ""},
	{"Heartbeat", FromStation, inAll, ""},
	{"InstallCertificate", FromCSMS, inAll, "Rejected"},
	{"LogStatusNotification", FromStation, inAll, ""},
	{"MeterValues", FromStation, inAll, ""},
	{"NotifyAllowedEnergyTransfer", FromCSMS, in21, "Rejected"},
	{"NotifyChargingLimit", FromStation, in2, ""},
	{"NotifyCustomerInformation", FromStation, in2, ""},
	{"NotifyDERAlarm", FromStation, in21, ""},
	{"NotifyDERStartStop", FromStation, in21, ""},
	{"NotifyDisplayMessages", FromStation, in2, ""},
	{"NotifyEVChargingNeeds", FromStation, in2, "Rejected"},
	{"NotifyEVChargingSchedule", FromStation, in2, "Rejected"},
	{"NotifyEvent", FromStation, in2, ""},
	{"NotifyMonitoringReport", FromStation, in2, ""},
	{"NotifyPeriodicEventStream", FromStation, in21, ""},
	{"NotifyPriorityCharging", FromStation, in21, ""},
	{"NotifyReport", FromStation, in2, ""},
	{"NotifySettlement", FromStation, in21, ""},
	{"NotifyWebPaymentStarted", FromCSMS, in21, ""},
	{"OpenPeriodicEventStream", FromStation, in21, "Rejected"},
	{"PublishFirmware", FromCSMS, in2, "Rejected"},
	{"PublishFirmwareStatusNotification", FromStation, in2, ""},
	{"PullDynamicScheduleUpdate", FromStation, in21, "Rejected"},
	{"RemoteStartTransaction", FromCSMS, in16, "Rejected"},
	{"RemoteStopTransaction", FromCSMS, in16, "Rejected"},
	{"ReportChargingProfiles", FromStation, in2, ""},
	{"ReportDERControl", FromStation, in21, ""},
	{"RequestBatterySwap", FromCSMS, in21, "Rejected"},
	{"RequestStartTransaction", FromCSMS, in2, "Rejected"},
	{"RequestStopTransaction", FromCSMS, in2, "Rejected"},
	{"ReservationStatusUpdate", FromStation, in2, ""},
	{"ReserveNow", FromCSMS, inAll, "Rejected"},
	{"Reset", FromCSMS, inAll, "Rejected"},
	{"SecurityEventNotification", FromStation, inAll, ""},
	{"SendLocalList", FromCSMS, inAll, "Failed"},
	{"SetChargingProfile", FromCSMS, inAll, "Rejected"},
	{"SetDERControl", FromCSMS, in21, "Rejected"},
	{"SetDefaultTariff", FromCSMS, in21, "Rejected"},
	{"SetDisplayMessage", FromCSMS, in2, "Rejected"},
	{"SetMonitoringBase", FromCSMS, in2, "Rejected"},
	{"SetMonitoringLevel", FromCSMS, in2, "Rejected"},
	{"SetNetworkProfile", FromCSMS, in2, "Rejected"},
	{"SetVariableMonitoring", FromCSMS, in2, ""},
	{"SetVariables", FromCSMS, in2, ""},
	{"SignCertificate", FromStation, inAll, "Rejected"},
	{"SignedFirmwareStatusNotification", FromStation, in16, ""},
	{"SignedUpdateFirmware", FromCSMS, in16, "Rejected"},
	{"StartTransaction", FromStation, in16, ""},
	{"StatusNotification", FromStation, inAll, ""},
	{"StopTransaction", FromStation, in16, ""},
	{"TransactionEvent", FromStation, in2, ""},
	{"TriggerMessage", FromCSMS, inAll, "Rejected"},
	{"UnlockConnector", FromCSMS, inAll, "UnlockFailed"},
	{"UnpublishFirmware", FromCSMS, in2, ""},
	{"UpdateDynamicSchedule", FromCSMS, in21, "Rejected"},
	{"UpdateFirmware", FromCSMS, inAll, "Rejected"},
	{"UsePriorityCharging", FromCSMS, in21, "Rejected"},
	{"VatNumberValidation", FromStation, in21, ""},
}
