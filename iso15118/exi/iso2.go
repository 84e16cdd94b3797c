package exi

import (
	"math"
	"sync"
)

// ISO2 is the set of ISO 15118-2:2014, namespace urn:iso:15118:2:2013.
var ISO2 = sync.OnceValue(func() *Set {
	b := newBuilder()
	b.signature()
	b.integers()
	b.iso2Values()
	b.space = nsTypes
	b.iso2Types()
	b.iso2Tariffs()
	b.iso2Power()
	b.space = nsBody
	b.iso2Messages()
	b.space = nsHeader
	b.typ("MessageHeaderType", one("SessionID", "sessionIDType"), opt("Notification", "NotificationType"), signature)
	b.space = nsDef
	b.typ("V2G_Message", one("Header", "MessageHeaderType"), one("Body", "BodyType"))
	b.root("V2G_Message", "V2G_Message")
	// eMAID has an Id in answers and none in requests: the only name of the three
	// sets with two types.
	return b.set("iso15118-2", withSignature(names2), "eMAID")
})

func withSignature(names []declared) []declared {
	return append(names[:len(names):len(names)], namesSignature...)
}

// integers are the built-in types of XML Schema.
func (b *builder) integers() {
	b.value("boolean", simple{kind: kindBool})
	b.value("byte", simple{kind: kindSmall, min: math.MinInt8, max: math.MaxInt8})
	b.value("short", simple{kind: kindInteger, min: math.MinInt16, max: math.MaxInt16})
	b.value("long", simple{kind: kindInteger, min: math.MinInt64, max: math.MaxInt64})
	b.value("unsignedByte", simple{kind: kindSmall, max: math.MaxUint8})
	b.value("unsignedShort", simple{kind: kindNatural, max: math.MaxUint16})
	b.value("unsignedInt", simple{kind: kindNatural, max: math.MaxUint32})
	b.value("unsignedLong", simple{kind: kindNatural})
	b.value("percentValueType", simple{kind: kindSmall, max: 100})
}

func text(min, max int64) simple   { return simple{kind: kindText, min: min, max: max} }
func octets(min, max int64) simple { return simple{kind: kindBytes, min: min, max: max} }
func enum(names ...string) simple  { return simple{kind: kindEnum, names: names} }

// iso2Values are the simple types with facets (ISO 15118-2 annex C).
func (b *builder) iso2Values() {
	b.value("sessionIDType", octets(0, 8))
	b.value("genChallengeType", octets(16, 16))
	b.value("certificateType", octets(0, 800))
	b.value("dHpublickeyType", octets(0, 65))
	b.value("privateKeyType", octets(0, 48))
	b.value("sigMeterReadingType", octets(0, 64))
	b.value("eMAIDType", text(14, 15))
	b.value("meterIDType", text(0, 32))
	b.value("faultMsgType", text(0, 64))
	b.value("tariffDescriptionType", text(0, 32))
	b.value("SAIDType", simple{kind: kindSmall, min: 1, max: 255})
	b.value("unitMultiplierType", simple{kind: kindSmall, min: -3, max: 3})
	b.value("startType", simple{kind: kindNatural, max: 16777214})
	b.value("durationType", simple{kind: kindNatural, max: 86400})

	b.value("faultCodeType", enum("ParsingError", "NoTLSRootCertificatAvailable", "UnknownError"))
	b.value("EVSEProcessingType", enum("Finished", "Ongoing", "Ongoing_WaitingForCustomerInteraction"))
	b.value("EVSENotificationType", enum("None", "StopCharging", "ReNegotiation"))
	b.value("costKindType", enum("relativePricePercentage", "RenewableGenerationPercentage", "CarbonDioxideEmission"))
	b.value("unitSymbolType", enum("h", "m", "s", "A", "V", "W", "Wh"))
	b.value("isolationLevelType", enum("Invalid", "Valid", "Warning", "Fault", "No_IMD"))
	b.value("DC_EVSEStatusCodeType", enum("EVSE_NotReady", "EVSE_Ready", "EVSE_Shutdown", "EVSE_UtilityInterruptEvent",
		"EVSE_IsolationMonitoringActive", "EVSE_EmergencyShutdown", "EVSE_Malfunction", "Reserved_8", "Reserved_9", "Reserved_A", "Reserved_B", "Reserved_C"))
	b.value("responseCodeType", enum("OK", "OK_NewSessionEstablished", "OK_OldSessionJoined", "OK_CertificateExpiresSoon",
		"FAILED", "FAILED_SequenceError", "FAILED_ServiceIDInvalid", "FAILED_UnknownSession", "FAILED_ServiceSelectionInvalid",
		"FAILED_PaymentSelectionInvalid", "FAILED_CertificateExpired", "FAILED_SignatureError", "FAILED_NoCertificateAvailable",
		"FAILED_CertChainError", "FAILED_ChallengeInvalid", "FAILED_ContractCanceled", "FAILED_WrongChargeParameter",
		"FAILED_PowerDeliveryNotApplied", "FAILED_TariffSelectionInvalid", "FAILED_ChargingProfileInvalid",
		"FAILED_MeteringSignatureNotValid", "FAILED_NoChargeServiceSelected", "FAILED_WrongEnergyTransferMode",
		"FAILED_ContactorError", "FAILED_CertificateNotAllowedAtThisEVSE", "FAILED_CertificateRevoked"))
}

func (b *builder) iso2Types() {
	b.typ("NotificationType", one("FaultCode", "faultCodeType"), opt("FaultMsg", "faultMsgType"))
	b.typ("SubCertificatesType", many("Certificate", "certificateType", 4))
	b.typ("CertificateChainType", id, one("Certificate", "certificateType"), opt("SubCertificates", "SubCertificatesType"))
	b.typ("ContractSignatureEncryptedPrivateKeyType", needID, content("privateKeyType"))
	b.typ("DiffieHellmanPublickeyType", needID, content("dHpublickeyType"))
	b.typ("EMAIDType", needID, content("eMAIDType"))
	b.typ("ListOfRootCertificateIDsType", many("RootCertificateID", "X509IssuerSerialType", 20))
	b.typ("PhysicalValueType", one("Multiplier", "unitMultiplierType"), one("Unit", "unitSymbolType"), one("Value", "short"))
	b.typ("MeterInfoType", one("MeterID", "meterIDType"), opt("MeterReading", "unsignedLong"), opt("SigMeterReading", "sigMeterReadingType"),
		opt("MeterStatus", "short"), opt("TMeter", "long"))
}

// iso2Tariffs are the schedules, of which the SalesTariff is signed.
func (b *builder) iso2Tariffs() {
	interval := choice(1, "", "RelativeTimeInterval RelativeTimeIntervalType", "TimeInterval")
	b.typ("RelativeTimeIntervalType", one("start", "startType"), opt("duration", "durationType"))
	b.typ("SAScheduleListType", many("SAScheduleTuple", "SAScheduleTupleType", 3))
	b.typ("SAScheduleTupleType", one("SAScheduleTupleID", "SAIDType"), one("PMaxSchedule", "PMaxScheduleType"), opt("SalesTariff", "SalesTariffType"))
	b.typ("PMaxScheduleType", many("PMaxScheduleEntry", "PMaxScheduleEntryType", 1024))
	b.typ("PMaxScheduleEntryType", interval, one("PMax", "PhysicalValueType"))
	b.typ("SalesTariffType", id, one("SalesTariffID", "SAIDType"), opt("SalesTariffDescription", "tariffDescriptionType"),
		opt("NumEPriceLevels", "unsignedByte"), many("SalesTariffEntry", "SalesTariffEntryType", 1024))
	b.typ("SalesTariffEntryType", interval, opt("EPriceLevel", "unsignedByte"), times("ConsumptionCost", "ConsumptionCostType", 0, 3))
	b.typ("ConsumptionCostType", one("startValue", "PhysicalValueType"), many("Cost", "CostType", 3))
	b.typ("CostType", one("costKind", "costKindType"), one("amount", "unsignedInt"), opt("amountMultiplier", "unitMultiplierType"))
}

// iso2Power is what a ChargeParameterDiscoveryRes has beside schedules.
func (b *builder) iso2Power() {
	b.typ("EVSEStatusType", one("NotificationMaxDelay", "unsignedShort"), one("EVSENotification", "EVSENotificationType"))
	b.typ("AC_EVSEStatusType", extends("EVSEStatusType"), one("RCD", "boolean"))
	b.typ("DC_EVSEStatusType", extends("EVSEStatusType"), opt("EVSEIsolationStatus", "isolationLevelType"), one("EVSEStatusCode", "DC_EVSEStatusCodeType"))
	b.typ("AC_EVSEChargeParameterType", one("AC_EVSEStatus", "AC_EVSEStatusType"), one("EVSENominalVoltage", "PhysicalValueType"),
		one("EVSEMaxCurrent", "PhysicalValueType"))
	b.typ("DC_EVSEChargeParameterType", one("DC_EVSEStatus", "DC_EVSEStatusType"), one("EVSEMaximumCurrentLimit", "PhysicalValueType"),
		one("EVSEMaximumPowerLimit", "PhysicalValueType"), one("EVSEMaximumVoltageLimit", "PhysicalValueType"),
		one("EVSEMinimumCurrentLimit", "PhysicalValueType"), one("EVSEMinimumVoltageLimit", "PhysicalValueType"),
		opt("EVSECurrentRegulationTolerance", "PhysicalValueType"), one("EVSEPeakCurrentRipple", "PhysicalValueType"),
		opt("EVSEEnergyToBeDelivered", "PhysicalValueType"))
}

func (b *builder) iso2Messages() {
	status := choice(1, nsTypes, "AC_EVSEStatus AC_EVSEStatusType", "DC_EVSEStatus DC_EVSEStatusType", "EVSEStatus")
	b.typ("BodyType", choice(0, "",
		"AuthorizationReq AuthorizationReqType", "AuthorizationRes AuthorizationResType", "BodyElement", "CableCheckReq", "CableCheckRes",
		"CertificateInstallationReq CertificateInstallationReqType", "CertificateInstallationRes CertificateInstallationResType",
		"CertificateUpdateReq CertificateUpdateReqType", "CertificateUpdateRes CertificateUpdateResType",
		"ChargeParameterDiscoveryReq", "ChargeParameterDiscoveryRes ChargeParameterDiscoveryResType", "ChargingStatusReq", "ChargingStatusRes",
		"CurrentDemandReq", "CurrentDemandRes", "MeteringReceiptReq MeteringReceiptReqType", "MeteringReceiptRes MeteringReceiptResType",
		"PaymentDetailsReq PaymentDetailsReqType", "PaymentDetailsRes PaymentDetailsResType", "PaymentServiceSelectionReq",
		"PaymentServiceSelectionRes", "PowerDeliveryReq", "PowerDeliveryRes", "PreChargeReq", "PreChargeRes", "ServiceDetailReq",
		"ServiceDetailRes", "ServiceDiscoveryReq", "ServiceDiscoveryRes", "SessionSetupReq", "SessionSetupRes", "SessionStopReq",
		"SessionStopRes", "WeldingDetectionReq", "WeldingDetectionRes"))
	for _, name := range []string{"AuthorizationReq", "AuthorizationRes", "CertificateInstallationReq", "CertificateInstallationRes", "CertificateUpdateReq",
		"CertificateUpdateRes", "ChargeParameterDiscoveryRes", "MeteringReceiptReq", "MeteringReceiptRes", "PaymentDetailsReq", "PaymentDetailsRes"} {
		b.root(name, name+"Type")
	}
	b.typ("AuthorizationReqType", id, opt("GenChallenge", "genChallengeType"))
	b.typ("AuthorizationResType", one("ResponseCode", "responseCodeType"), one("EVSEProcessing", "EVSEProcessingType"))
	b.typ("PaymentDetailsReqType", one("eMAID", "eMAIDType"), one("ContractSignatureCertChain", "CertificateChainType"))
	b.typ("PaymentDetailsResType", one("ResponseCode", "responseCodeType"), one("GenChallenge", "genChallengeType"), one("EVSETimeStamp", "long"))
	b.typ("CertificateInstallationReqType", needID, one("OEMProvisioningCert", "certificateType"), one("ListOfRootCertificateIDs", "ListOfRootCertificateIDsType"))
	b.typ("CertificateUpdateReqType", needID, one("ContractSignatureCertChain", "CertificateChainType"), one("eMAID", "eMAIDType"),
		one("ListOfRootCertificateIDs", "ListOfRootCertificateIDsType"))
	b.typ("CertificateInstallationResType", one("ResponseCode", "responseCodeType"), one("SAProvisioningCertificateChain", "CertificateChainType"),
		one("ContractSignatureCertChain", "CertificateChainType"),
		one("ContractSignatureEncryptedPrivateKey", "ContractSignatureEncryptedPrivateKeyType"),
		one("DHpublickey", "DiffieHellmanPublickeyType"), one("eMAID", "EMAIDType"))
	b.typ("CertificateUpdateResType", extends("CertificateInstallationResType"), opt("RetryCounter", "short"))
	b.typ("MeteringReceiptReqType", id, one("SessionID", "sessionIDType"), opt("SAScheduleTupleID", "SAIDType"), one("MeterInfo", "MeterInfoType"))
	b.typ("MeteringReceiptResType", one("ResponseCode", "responseCodeType"), status)
	b.typ("ChargeParameterDiscoveryResType", one("ResponseCode", "responseCodeType"), one("EVSEProcessing", "EVSEProcessingType"),
		choice(0, nsTypes, "SAScheduleList SAScheduleListType", "SASchedules"),
		choice(1, nsTypes, "AC_EVSEChargeParameter AC_EVSEChargeParameterType", "DC_EVSEChargeParameter DC_EVSEChargeParameterType", "EVSEChargeParameter"))
}
