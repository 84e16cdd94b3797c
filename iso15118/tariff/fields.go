package tariff

// member is how one member of OCPP's JSON is spelled in EXI.
type member struct {
	json, local string
	kind        kind
	list        bool   // an array, an element for each
	within      string // the element around those of an array; "": none
	of          []member
}

type kind uint8

const (
	nested   kind = iota // with members of its own
	text                 // as it is
	integer              // without fraction
	boolean              //
	instant              // date-time, to whole seconds since 1970
	physical             // number, to a PhysicalValueType in watt
	costKind             // enumeration that OCPP spells in capitals
)

func obj(json, local string, of []member) member { return member{json: json, local: local, of: of} }

func val(json, local string, k kind) member { return member{json: json, local: local, kind: k} }

func list(json, within, local string, of []member) member {
	return member{json: json, local: local, list: true, within: within, of: of}
}

// The tariff of ISO 15118-2 (SalesTariffType).
var salesTariff = []member{
	val("id", "SalesTariffID", integer),
	val("salesTariffDescription", "SalesTariffDescription", text),
	val("numEPriceLevels", "NumEPriceLevels", integer),
	list("salesTariffEntry", "", "SalesTariffEntry", []member{
		obj("relativeTimeInterval", "RelativeTimeInterval", []member{val("start", "start", integer), val("duration", "duration", integer)}),
		val("ePriceLevel", "EPriceLevel", integer),
		list("consumptionCost", "", "ConsumptionCost", []member{
			val("startValue", "startValue", physical),
			list("cost", "", "Cost", []member{
				val("costKind", "costKind", costKind), val("amount", "amount", integer), val("amountMultiplier", "amountMultiplier", integer),
			}),
		}),
	}),
}

var rational = []member{val("exponent", "Exponent", integer), val("value", "Value", integer)}

// The tariffs of ISO 15118-20. OCPP spells priceScheduleID in two ways.
var absolutePriceSchedule = []member{
	val("timeAnchor", "TimeAnchor", instant),
	val("priceScheduleID", "PriceScheduleID", integer),
	val("priceScheduleDescription", "PriceScheduleDescription", text),
	val("currency", "Currency", text),
	val("language", "Language", text),
	val("priceAlgorithm", "PriceAlgorithm", text),
	obj("minimumCost", "MinimumCost", rational),
	obj("maximumCost", "MaximumCost", rational),
	list("taxRules", "TaxRules", "TaxRule", []member{
		val("taxRuleID", "TaxRuleID", integer),
		val("taxRuleName", "TaxRuleName", text),
		obj("taxRate", "TaxRate", rational),
		val("taxIncludedInPrice", "TaxIncludedInPrice", boolean),
		val("appliesToEnergyFee", "AppliesToEnergyFee", boolean),
		val("appliesToParkingFee", "AppliesToParkingFee", boolean),
		val("appliesToOverstayFee", "AppliesToOverstayFee", boolean),
		val("appliesToMinimumMaximumCost", "AppliesMinimumMaximumCost", boolean),
	}),
	list("priceRuleStacks", "PriceRuleStacks", "PriceRuleStack", []member{
		val("duration", "Duration", integer),
		list("priceRule", "", "PriceRule", []member{
			obj("energyFee", "EnergyFee", rational),
			obj("parkingFee", "ParkingFee", rational),
			val("parkingFeePeriod", "ParkingFeePeriod", integer),
			val("carbonDioxideEmission", "CarbonDioxideEmission", integer),
			val("renewableGenerationPercentage", "RenewableGenerationPercentage", integer),
			obj("powerRangeStart", "PowerRangeStart", rational),
		}),
	}),
	obj("overstayRuleList", "OverstayRules", []member{
		val("overstayTimeThreshold", "OverstayTimeThreshold", integer),
		obj("overstayPowerThreshold", "OverstayPowerThreshold", rational),
		list("overstayRule", "", "OverstayRule", []member{
			val("overstayRuleDescription", "OverstayRuleDescription", text),
			val("startTime", "StartTime", integer),
			obj("overstayFee", "OverstayFee", rational),
			val("overstayFeePeriod", "OverstayFeePeriod", integer),
		}),
	}),
	list("additionalSelectedServices", "AdditionalSelectedServices", "AdditionalService", []member{
		val("serviceName", "ServiceName", text), obj("serviceFee", "ServiceFee", rational),
	}),
}

var priceLevelSchedule = []member{
	val("timeAnchor", "TimeAnchor", instant),
	val("priceScheduleId", "PriceScheduleID", integer),
	val("priceScheduleDescription", "PriceScheduleDescription", text),
	val("numberOfPriceLevels", "NumberOfPriceLevels", integer),
	list("priceLevelScheduleEntries", "PriceLevelScheduleEntries", "PriceLevelScheduleEntry", []member{
		val("duration", "Duration", integer), val("priceLevel", "PriceLevel", integer),
	}),
}
